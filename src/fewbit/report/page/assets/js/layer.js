// The chosen layer in full. It is named by the address (#layer-12), so that a link can point at it.

function choose(id, { scroll = false, address = true } = {}) {
  const layer = layers.find((l) => l.id === id);
  if (!layer || !layerTable) return;
  chosen = layer;
  $("chosen").hidden = false;
  $("chosen-h").textContent = nameOf(layer);
  $("chosen-eyebrow").textContent = [`Layer ${layer.id}`, layer.op, layer.name && layer.node !== layer.name ? `makes ${layer.name}` : ""].filter(Boolean).join(" · ");
  const verdict = $("chosen-verdict");
  const form = layer.integer === null || layer.integer === undefined ? "" : layer.integer ? "integer" : "float";
  verdict.className = `layer-verdict ${form}`;
  verdict.replaceChildren(element("b", {}, form === "integer" ? "Computed in integers" : form ? "Computed in float" : "Not told how it is computed"), layer.verdict ? ` – ${layer.verdict}` : "");
  $("chosen-facts").replaceChildren(...describe(layer).map(([name, value, hint]) => element("div", {}, element("dt", hint ? { title: hint } : {}, name), element("dd", {}, value))));
  for (const row of layerTable.tBodies[0].rows) row.classList.toggle("chosen", idOf(row) === id);
  const row = $(`layer-${id}`);
  inSight(row);
  if (!row.hidden) rove(row);
  markChosen(document);
  walked();
  for (const figure of [histogramFigure, ...weightFigures]) figure?.again();
  $("chart-weight-sqnr").hidden = !layer.weights;
  if (address && location.hash !== `#layer-${id}`) history.replaceState(null, "", `#layer-${id}`);
  if (scroll) {
    const box = $("chosen").getBoundingClientRect();
    if (box.top < 60 || box.top > innerHeight * 0.5) $("chosen").scrollIntoView({ block: "start" });
  }
}

function describe(layer) {
  const w = layer.weights, range = layer.range;
  const found = [
    ["SQNR", num(layer.sqnr) === null ? NONE : `${fixed(layer.sqnr, 1)} dB`],
    ["Own SQNR", num(layer.own) === null ? NONE : `${fixed(layer.own, 1)} dB`, "estimated, of this layer alone"],
    ["Cosine", fixed(layer.cosine, 5)],
    ["Max error", figureOf(layer.max_abs)],
    ["Clipped", percent(layer.clip, 3)],
    ["Zeros", percent(layer.sparsity, 1)],
    ["Format", layer.format ?? NONE],
    ["Scale", figureOf(layer.scale)],
    ["Zero point", layer.zero_point ?? NONE],
    ["Range", range ? `${figureOf(range[0])} to ${figureOf(range[1])}` : NONE],
    ["Range by", layer.range_reason || NONE],
    ["Weights", w ? `${w.format}, per ${w.granularity}` : NONE],
    ["MACs", big(layer.macs)],
    ["Time, float → quantized", `${figureOf(layer.us_float)} → ${figureOf(layer.us_quantized)} μs`],
  ];
  return found.map(([name, value, hint]) => [name, String(value), hint]);
}

// where the chosen layer stands among those that the table shows
function walked() {
  const ids = walk(), at = chosen ? ids.indexOf(chosen.id) : -1;
  $("previous").disabled = at <= 0;
  $("next").disabled = at === ids.length - 1 && at >= 0 || !ids.length;
  $("chosen-place").textContent = at < 0 ? "not in the filtered table" : `${at + 1} of ${ids.length}`;
}

function step(by) {
  const ids = walk(), at = ids.indexOf(chosen.id);
  choose(ids[at < 0 ? 0 : Math.max(0, Math.min(ids.length - 1, at + by))]);
}

function markChosen(where) {
  for (const link of where.querySelectorAll("a[data-layer]")) {
    const is = chosen && Number(link.dataset.layer) === chosen.id;
    link.classList.toggle("chosen", is);
    if (is) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function fromAddress(scroll) {
  const found = /^#layer-(\d+)$/.exec(location.hash);
  if (found) choose(Number(found[1]), { scroll });
  return Boolean(found) && chosen;
}

if (layerTable) {
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a");
    const to = /^#layer-(\d+)$/.exec(link?.href?.baseVal ?? link?.getAttribute("href") ?? "");
    if (!to || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    choose(Number(to[1]), { scroll: true });
    if (event.detail === 0) $("chosen").focus({ preventScroll: true }); // by Enter: go on reading there
  });
  addEventListener("hashchange", () => fromAddress(true));
  for (const id of ["filter-name", "filter-op", "filter-form", "filter-clear"]) $(id).addEventListener(id === "filter-clear" ? "click" : "input", walked);
  if (!fromAddress(true) && layers.length) choose(idOf(layerTable.tBodies[0].rows[0]), { address: false });
}
