// Accuracy over bits, as `fewbit simulate --sweep` found it: colour and shape say what shares a scale, the line's style
// where ranges come from; networks with BatchNorm merged have a panel of their own.

const LINES = ["var(--float)", "var(--int)", "var(--third)", "var(--fourth)"];
const SHAPES = ["circle", "square", "triangle", "diamond"];
const DASHES = ["none", "6 3", "2 3", "8 3 2 3"];
const cycled = (known, all, x) => known[all.indexOf(x) % known.length];

(facts.sweeps ?? []).forEach((sweep, index) => {
  const rows = sweep.rows ?? [];
  const labelled = rows.every((r) => num(r.top1) !== null);
  const heightOf = (r) => 100 * (num(labelled ? r.top1 : r.agreement) ?? NaN);
  const panel = (r) => (r.merge_bn ? "BatchNorm merged" : "BatchNorm beside the weights");
  const kinds = [...new Set(rows.map((r) => r.quant_type))], ranges = [...new Set(rows.map((r) => r.ranges))];
  const panels = [...new Set(rows.map(panel))].sort();
  const lines = [...d3.group(rows, panel, (r) => r.quant_type, (r) => r.ranges)].flatMap(([fx, a]) => [...a].flatMap(([kind, b]) => [...b].map(([range, c]) => ({ fx, kind, range, rows: [...c].sort((p, q) => p.bits - q.bits) }))));
  addFigure(`sweep-${index}`, {
    height: () => 340,
    none: "No simulation was told.",
    draw(width) {
      if (!rows.length) return null;
      const key = [
        ...kinds.map((k) => ({ label: `per ${k}`, stroke: cycled(LINES, kinds, k), symbol: d3[`symbol${cycled(SHAPES, kinds, k).replace(/^./, (c) => c.toUpperCase())}`], lineless: true })),
        ...ranges.map((r) => ({ label: `${r} ranges`, stroke: "currentColor", dash: cycled(DASHES, ranges, r) })),
      ];
      const top1 = num(sweep.top1);
      if (labelled && top1 !== null) key.push({ label: `float ${percent(top1, 1)}`, stroke: "var(--ink-soft)" });
      const stacked = width < 560 && panels.length > 1; // on a phone, panels stand below each other
      const facet = stacked ? "fy" : "fx";
      return plot({
        width, height: stacked ? 560 : 340, key, marginBottom: 40, marginTop: stacked ? 8 : 24, marginRight: stacked ? 40 : 16,
        [facet]: { label: null, domain: panels, padding: 0.08, ...(stacked ? { axis: null } : {}) },
        x: { label: "bits of inputs and weights →", ticks: [...new Set(rows.map((r) => r.bits))], tickFormat: "d", inset: 10 },
        y: { label: labelled ? "↑ top-1, %" : "↑ agreement with float, %", nice: true, zero: true },
        marks: [
          gridY(),
          labelled && top1 !== null ? Plot.ruleY([100 * top1], { stroke: "var(--ink-soft)", strokeWidth: 1.5 }) : null,
          ...lines.flatMap((l) => {
            const stroke = cycled(LINES, kinds, l.kind);
            return [
              Plot.line(l.rows, { x: "bits", y: heightOf, [facet]: () => l.fx, stroke, strokeWidth: 1.7, strokeDasharray: cycled(DASHES, ranges, l.range) }),
              Plot.dot(l.rows, { x: "bits", y: heightOf, [facet]: () => l.fx, symbol: cycled(SHAPES, kinds, l.kind), r: 3.5, fill: stroke }),
            ];
          }),
          stacked ? Plot.text(panels, { fy: (p) => p, text: (p) => p, frameAnchor: "top-left", dx: 4, fontWeight: 600 }) : null,
          Plot.tip(rows, Plot.pointer({ x: "bits", y: heightOf, [facet]: panel, title: (r) => `${r.bits} bits, per ${r.quant_type}, ${r.ranges} ranges\n${panel(r)}\n${labelled ? "top-1" : "agreement"} ${fixed(heightOf(r), 2)} %` })),
        ],
      });
    },
    label: () => "Accuracy in percent over bits, one line for each way of quantizing. The table below the picture has the numbers.",
    rows: () => rows,
  });
});
