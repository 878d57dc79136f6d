// The panel: everything that is known of the selected box, and its partners in the other stages.
const panel = document.getElementById("panel");
const SIGNS = { integer: "integer", merged: "merged", dynamic: "integer, range at run time", weights: "weights only", float: "float" };
const COLUMNS = { Reads: ["value", "shape", "format", "scale"], Gives: ["value", "shape", "format", "scale"], Weights: ["weight", "shape", "format", "scale"] };

function fill(stage, id) {
  const box = stage.boxes[id];
  const close = element("button", { type: "button", className: "close", textContent: "Close", onclick: () => clear() });
  const title = element("h2", { id: "panel-title", tabIndex: -1, textContent: box.op });
  const parts = [element("div", { className: "panel-head" }, title, close), element("p", { className: "name", textContent: box.name })];
  if (box.verdict) parts.push(element("p", {}, element("span", { className: `verdict ${box.verdict}`, textContent: SIGNS[box.verdict] }), box.reason ? ` ${box.reason}` : ""));
  const partners = (byKey.get(box.key) ?? []).filter(([name]) => name !== stage.name);
  if (partners.length) parts.push(element("h3", { textContent: "In the other stages" }), element("ul", { className: "partners" }, ...partners.map(partner)));
  for (const [name, rows] of Object.entries(box.facts)) parts.push(element("h3", { textContent: name }), table(name, rows));
  panel.replaceChildren(...parts);
  panel.hidden = false;
}

function partner([name, id]) {
  const stage = stages.get(name), box = thing(stage, id);
  const link = element("a", { href: stage.boxes[id] ? address(stage, id) : "#", textContent: box.name ?? box.title });
  if (!stage.boxes[id]) link.addEventListener("click", (e) => { e.preventDefault(); reveal(stage, id); setOpen(box.key, true); layAll(stage, id); });
  return element("li", {}, `${stage.title}: `, link);
}

function table(name, rows) {
  const heads = COLUMNS[name];
  if (!heads) return element("dl", {}, ...rows.map((r) => element("div", {}, ...(r.length > 1 ? [element("dt", { textContent: r[0] })] : []), element("dd", { textContent: r.at(-1) }))));
  const head = element("tr", {}, ...heads.map((h) => element("th", { scope: "col", textContent: h })));
  const body = rows.map((r) => element("tr", {}, ...r.map((c, i) => (i ? element("td", { textContent: c }) : element("th", { scope: "row", textContent: c })))));
  const made = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { className: "wide", tabIndex: 0, role: "region", ariaLabel: name }, made);
}

// -- what is selected ---------------------------------------------------------------------------------------------------

let chosen = null; // [stage name, id]

const address = (stage, id) => `#${stage.name}:${encodeURIComponent(stage.boxes[id].kind === "layer" ? stage.boxes[id].name : stage.boxes[id].key)}`;

function select(stage, id, { jump = false, focus = false } = {}) {
  chosen = [stage.name, id];
  fill(stage, id);
  light();
  const g = find(stage, id);
  if (g) {
    walk(stage, g, focus);
    show(stage, g, jump);
  }
  history.replaceState(null, "", address(stage, id));
}

// Light up the selected box and, in the other stages, what does the same or the folded group that holds it.
function light() {
  const [name, id] = chosen ?? [];
  const key = chosen && stages.get(name).boxes[id].key;
  for (const stage of shownStages()) {
    for (const g of stage.svg.querySelectorAll(".chosen, .partner")) g.classList.remove("chosen", "partner");
    if (!chosen) continue;
    const own = stage.name === name;
    const ids = own ? [id] : (byKey.get(key) ?? []).filter(([n]) => n === stage.name).map(([, i]) => i);
    const found = [...new Set(ids.map((i) => seen(stage.parent, stage.opened, i)))].map((i) => find(stage, i)).filter(Boolean);
    for (const g of found) g.classList.add(own ? "chosen" : "partner");
    if (!own && found.length) show(stage, found[0]);
  }
}

function clear() {
  const last = chosen && find(stages.get(chosen[0]), chosen[1]);
  chosen = null;
  panel.hidden = true;
  light();
  history.replaceState(null, "", location.pathname + location.search);
  last?.focus({ preventScroll: true });
}

// #quantized:layer1.0%2Fconv1
function fromHash() {
  const [name, ...rest] = location.hash.slice(1).split(":");
  const stage = stages.get(name);
  if (!stage) return;
  const wanted = safeDecode(rest.join(":"));
  const id = Object.keys(stage.boxes).find((i) => stage.boxes[i].name === wanted) ?? Object.keys(stage.boxes).find((i) => stage.boxes[i].key === wanted);
  if (id) goTo(stage, id);
}

function safeDecode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function goTo(stage, id) {
  const hidden = !stage.visible;
  stage.visible = true;
  if (reveal(stage, id) || hidden) arrange();
  select(stage, id, { jump: true });
}
