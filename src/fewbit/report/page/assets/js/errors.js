// Where the error is: the worst layers as bars, and the error along the network.

const FEW = 20;
let allBars = false;

// SQNR in dB → noise as a share of the signal, in percent; what is worse than 100 % is cut there
const noise = (sqnr) => (Number.isNaN(sqnr) ? 100 : Math.min(100, 100 * 10 ** (-sqnr / 20)));
const known = worstFirst.filter((layer) => num(layer.sqnr) !== null);
const shown = () => known.slice(0, allBars ? known.length : FEW);
const told = (layer) => (Number.isNaN(num(layer.sqnr)) ? "NaN" : `${fixed(layer.sqnr, 1)} dB`);

addFigure("errors", {
  height: () => 64 + 22 * shown().length,
  none: "The error of the layers was not measured.",
  draw(width) {
    if (!known.length) return null;
    const rows = shown();
    const { marginLeft, letters } = nameRoom(width, rows.map(nameOf));
    const byId = new Map(rows.map((layer) => [layer.id, layer]));
    const asFloat = hatch("var(--float)"), broken = hatch("var(--bad)", -45, 6);
    const fill = (layer) => (Number.isNaN(num(layer.sqnr)) ? broken.fill : layer.integer ? "var(--int)" : asFloat.fill);
    const key = [{ label: "computed in integers", fill: "var(--int)" }];
    if (rows.some((layer) => !layer.integer)) key.push({ label: "computed in float", fill: asFloat.fill, stroke: "var(--float)" });
    if (rows.some((layer) => Number.isNaN(num(layer.sqnr)))) key.push({ label: "not a number", fill: broken.fill, stroke: "var(--bad)" });
    const svg = plot({
      width, marginLeft, marginRight: 62, key, height: this.height() + keyHeight(key, width - marginLeft - 62), marginBottom: 40,
      x: { label: "noise ÷ signal, %", domain: [0, Math.max(0.1, d3.max(rows, (l) => noise(num(l.sqnr))))], nice: true },
      y: { label: null, domain: rows.map((l) => l.id), tickFormat: (id) => short(nameOf(byId.get(id)), letters), tickSize: 0, padding: 0.28 },
      marks: [
        asFloat.mark, broken.mark, gridX(),
        Plot.barX(rows, { x: (l) => noise(num(l.sqnr)), y: "id", fill, href: (l) => `#layer-${l.id}`, ariaLabel: (l) => `${short(nameOf(l), 80)}, ${told(l)}` }),
        Plot.text(rows, { x: (l) => noise(num(l.sqnr)), y: "id", text: told, textAnchor: "start", dx: 6, fill: "currentColor" }),
        Plot.ruleX([0], { stroke: "currentColor" }),
      ],
    });
    svg.setAttribute("role", "group"); // its bars are links
    for (const link of svg.querySelectorAll("a")) {
      const bar = link.firstElementChild;
      link.dataset.layer = link.href.baseVal.replace("#layer-", "");
      link.setAttribute("aria-label", bar.getAttribute("aria-label"));
      bar.removeAttribute("aria-label");
    }
    markChosen(svg);
    return svg;
  },
  label: () => `The ${shown().length} layers with the lowest SQNR; the worst is ${short(nameOf(known[0]), 80)} with ${told(known[0])}. The table below has all of them.`,
  rows: () => known.map(flat),
  controls: known.length > FEW ? [{ label: `All ${known.length}`, pressed: () => allBars, press: () => (allBars = !allBars) }] : [],
});

// a layer as one line of a table
function flat(layer) {
  const { histogram, weights, range, ...rest } = layer;
  return { ...rest, range_low: range?.[0] ?? null, range_high: range?.[1] ?? null };
}

addFigure("depth", {
  height: () => 300,
  none: "The error of the layers was not measured.",
  draw(width) {
    const points = layers.filter((l) => num(l.sqnr) !== null).map((l, i) => ({ layer: l, at: i + 1, sqnr: num(l.sqnr), own: num(l.own) }));
    const real = points.filter((p) => finite(p.sqnr));
    if (!points.length) return null;
    const values = [...real.map((p) => p.sqnr), ...points.map((p) => p.own).filter(finite)];
    const [low, high] = values.length ? d3.extent(values) : [0, 40];
    const floor = Math.min(0, low), roof = Math.max(high, floor + 10) * 1.02;
    const hasOwn = points.some((p) => finite(p.own));
    const odd = points.filter((p) => !finite(p.sqnr));
    const key = [{ label: "SQNR", stroke: "var(--int)", symbol: d3.symbolCircle }];
    if (hasOwn) key.push({ label: "own, estimated: the layer alone", stroke: "var(--float)", symbol: d3.symbolDiamond, hollow: true, lineless: true });
    if (odd.some((p) => Number.isNaN(p.sqnr))) key.push({ label: "not a number", stroke: "var(--bad)", symbol: d3.symbolTimes, lineless: true });
    if (odd.some((p) => p.sqnr === Infinity)) key.push({ label: "∞: no error", stroke: "var(--third)", symbol: d3.symbolTriangle, lineless: true });
    const svg = plot({
      width, height: 300, key, marginBottom: 40,
      x: { label: "layer, in the order of the network →", domain: [0.5, points.length + 0.5] },
      y: { label: "↑ SQNR, dB", domain: [floor, roof], nice: true },
      marks: [
        gridY(), Plot.ruleY([floor], { stroke: "currentColor" }),
        Plot.lineY(points, { x: "at", y: (p) => (finite(p.sqnr) ? p.sqnr : NaN), stroke: "var(--int)", strokeWidth: 1.5 }),
        hasOwn ? Plot.dot(points.filter((p) => finite(p.own)), { x: "at", y: "own", symbol: "diamond", r: 3.2, stroke: "var(--float)", fill: "var(--page)" }) : null,
        Plot.dot(real, { x: "at", y: "sqnr", r: 3, fill: "var(--int)" }),
        Plot.dot(odd, { x: "at", y: (p) => (p.sqnr > 0 ? roof : floor), symbol: (p) => (p.sqnr > 0 ? "triangle" : "times"), r: 5, stroke: (p) => (p.sqnr > 0 ? "var(--third)" : "var(--bad)"), strokeWidth: 2 }),
        Plot.ruleX(points, Plot.pointerX({ x: "at", stroke: "var(--line-strong)" })),
        Plot.tip(points, Plot.pointerX({ x: "at", y: (p) => (finite(p.sqnr) ? p.sqnr : p.sqnr > 0 ? roof : floor), title: (p) => `${short(nameOf(p.layer), 48)}\nSQNR ${told(p.layer)}, own ${fixed(p.own, 1)} dB\nclick: see this layer` })),
      ],
    });
    svg.style.cursor = "pointer";
    svg.addEventListener("click", () => svg.value && choose(svg.value.layer.id, { scroll: true }));
    return svg;
  },
  label: () => "SQNR in decibels of each layer in the order of the network. The table below has the numbers.",
  rows: () => layers.map((l) => ({ id: l.id, name: l.name, sqnr: l.sqnr, own: l.own })),
});
