// A stage in its pane: laid out by Graphviz, zoomed, dragged, walked through with the keyboard.
const MOST_ZOOM = 4, LEAST_ZOOM = 0.1, STEP = 1.25, PIXELS = 1.2; // pixels of a point of Graphviz at zoom 1

function pane(stage) {
  const place = element("div", { className: "sight" });
  const head = element("div", { className: "pane-head" });
  head.append(element("h2", { textContent: stage.title }), element("p", { textContent: stage.about }));
  stage.box = element("section", { className: "pane", ariaLabel: `stage ${stage.title}` }, head, place);
  stage.place = place;
  place.addEventListener("wheel", (e) => {
    if (!e.ctrlKey && !e.metaKey) return; // without: the pane scrolls
    e.preventDefault();
    zoomTo(stage, stage.zoom * (e.deltaY < 0 ? STEP ** 0.5 : STEP ** -0.5), e.clientX, e.clientY);
  }, { passive: false });
  draggable(place);
  place.addEventListener("click", (e) => act(stage, e.target.closest("g.node, g.cluster"), e.target));
  place.addEventListener("keydown", (e) => keys(stage, e));
  return stage.box;
}

// Lay out what is open. `hold`: id of a box that stays where it is in the window.
function lay(stage, hold) {
  const before = hold && find(stage, hold)?.getBoundingClientRect();
  const dot = ["digraph fewbit {", ...data.head, ...assemble(stage, stage.opened), "}"].join("\n");
  const svg = document.importNode(viz.renderSVGElement(dot), true);
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  stage.size = [width * PIXELS, height * PIXELS];
  svg.classList.add("drawn");
  svg.setAttribute("role", "group");
  svg.setAttribute("aria-label", `${stage.title}: arrows walk, Enter opens or shows`);
  for (const e of svg.querySelectorAll("g.graph > title, g.edge > title, g.edge a, g.graph > polygon")) e.remove();
  for (const g of svg.querySelectorAll("g.node, g.cluster")) dress(stage, g);
  stage.place.replaceChildren(svg);
  stage.svg = svg;
  stage.drawn = svg.querySelectorAll("g.node").length;
  zoomTo(stage, stage.zoom || 1);
  const after = hold && find(stage, hold)?.getBoundingClientRect();
  if (before && after) {
    stage.place.scrollLeft += after.left + after.width / 2 - before.left - before.width / 2;
    stage.place.scrollTop += after.top - before.top;
  }
  walk(stage, find(stage, hold ?? "") ?? svg.querySelector("g.node"));
}

function dress(stage, g) {
  const group = stage.groups[g.id], told = thing(stage, g.id);
  g.querySelector("title").textContent = told.tip;
  g.setAttribute("role", "button");
  g.setAttribute("tabindex", "-1");
  g.setAttribute("aria-label", told.tip.split("\n").filter(Boolean).join("; "));
  if (group) g.setAttribute("aria-expanded", String(stage.opened.has(g.id)));
}

const find = (stage, id) => (id && stage.svg ? stage.svg.querySelector(`#${CSS.escape(id)}`) : null);

// -- looking ----------------------------------------------------------------------------------------------------------

function zoomTo(stage, zoom, x, y) {
  const place = stage.place, around = place.getBoundingClientRect();
  const [dx, dy] = [(x ?? around.left + around.width / 2) - around.left, (y ?? around.top + around.height / 2) - around.top];
  const old = stage.zoom || 1;
  stage.zoom = Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, zoom));
  const ratio = stage.zoom / old, left = place.scrollLeft, top = place.scrollTop;
  stage.svg.setAttribute("width", Math.round(stage.size[0] * stage.zoom));
  stage.svg.setAttribute("height", Math.round(stage.size[1] * stage.zoom));
  place.scrollLeft = (left + dx) * ratio - dx;
  place.scrollTop = (top + dy) * ratio - dy;
}

// All stages in one size: the whole width, as long as it can be read; `whole`: width and height, whatever comes.
function fit(whole = false) {
  const sizes = shownStages().map(({ place, size }) => {
    const wide = (place.clientWidth - 8) / size[0], high = (place.clientHeight - 8) / size[1];
    return whole ? Math.min(wide, high) : Math.max(0.62, wide);
  });
  for (const stage of shownStages()) {
    zoomTo(stage, Math.min(1, ...sizes));
    stage.place.scrollTop = 0;
    const first = stage.svg.querySelector("g.node").getBoundingClientRect(), around = stage.place.getBoundingClientRect();
    stage.place.scrollLeft += first.left + first.width / 2 - around.left - around.width / 2;
  }
}

function draggable(place) {
  let from = null;
  place.addEventListener("pointerdown", (e) => {
    if (e.button === 0 && e.pointerType === "mouse") from = [e.clientX + place.scrollLeft, e.clientY + place.scrollTop, false];
  });
  place.addEventListener("pointermove", (e) => {
    if (!from || e.buttons !== 1) return;
    const [x, y] = [from[0] - e.clientX, from[1] - e.clientY];
    if (Math.hypot(x - place.scrollLeft, y - place.scrollTop) > 4 && !from[2]) {
      from[2] = true;
      place.classList.add("dragged");
      place.setPointerCapture(e.pointerId);
    }
    if (from[2]) [place.scrollLeft, place.scrollTop] = [x, y];
  });
  const end = () => {
    if (from?.[2]) place.addEventListener("click", (e) => e.stopImmediatePropagation(), { capture: true, once: true });
    if (from?.[2]) setTimeout(() => place.classList.remove("dragged"));
    from = null;
  };
  for (const kind of ["pointerup", "pointercancel"]) place.addEventListener(kind, end);
}

// -- doing ------------------------------------------------------------------------------------------------------------

// A click or Enter: folded groups open, titles of frames fold, boxes show what they are.
function act(stage, g, target = null) {
  if (!g) return;
  const group = stage.groups[g.id];
  if (!group) select(stage, g.id);
  else if (!stage.opened.has(g.id)) toggle(stage, g.id, true);
  else if (!target || target.closest("text")) toggle(stage, g.id, false);
}

function toggle(stage, id, wanted) {
  setOpen(stage.groups[id].key, wanted);
  layAll(stage, id);
  if (wanted) walk(stage, find(stage, id) ?? stage.svg.querySelector("g.node"), true);
}

function keys(stage, e) {
  const g = e.target.closest("g.node, g.cluster");
  const all = [...stage.svg.querySelectorAll("g.node, g.cluster")].sort((a, b) => order(stage, a) - order(stage, b));
  const at = all.indexOf(g), moves = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };
  if (g && e.key in moves && !e.altKey && !e.ctrlKey) walk(stage, all[at + moves[e.key]] ?? g, true);
  else if (g && e.key === "Home") walk(stage, all[0], true);
  else if (g && e.key === "End") walk(stage, all.at(-1), true);
  else if (g && (e.key === "Enter" || e.key === " ")) act(stage, g);
  else if (g && e.key === "Escape" && stage.parent.get(g.id)) toggle(stage, stage.parent.get(g.id), false);
  else if (e.key === "+" || e.key === "=") zoomTo(stage, stage.zoom * STEP);
  else if (e.key === "-") zoomTo(stage, stage.zoom / STEP);
  else if (e.key === "0") fit(true);
  else return;
  e.preventDefault();
}

const order = (stage, g) => stage.rank.get(g.id);

// One box at a time can be reached with Tab; arrows go on from there.
function walk(stage, g, focus = false) {
  if (!g) return;
  for (const old of stage.svg.querySelectorAll('[tabindex="0"]')) old.setAttribute("tabindex", "-1");
  g.setAttribute("tabindex", "0");
  if (focus) {
    g.focus({ preventScroll: true });
    show(stage, g);
  }
}

// Scroll a box into sight, if it is not. Browsers scroll SVG elements badly by themselves.
function show(stage, g, middle = false) {
  const a = g.getBoundingClientRect(), b = stage.place.getBoundingClientRect(), edge = 24;
  const outside = a.top < b.top + edge || a.bottom > b.bottom - edge || a.left < b.left || a.right > b.right;
  if (!outside && !middle) return;
  const smooth = matchMedia("(prefers-reduced-motion: no-preference)").matches && !middle;
  stage.place.scrollBy({
    left: a.left + a.width / 2 - b.left - b.width / 2,
    top: a.height > b.height ? a.top - b.top - edge : a.top + a.height / 2 - b.top - b.height / 2,
    behavior: smooth ? "smooth" : "instant",
  });
}
