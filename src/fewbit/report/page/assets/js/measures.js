// Time by operator and by layer, the most sensitive layers, files of each form.

const MOST = 12;
const profileRows = facts.profile?.rows ?? [];

// The float operator names a group, so that both sides tell of the same layers; what runs on one side only is its own.
function byOperator() {
  const found = new Map();
  for (const row of profileRows) {
    const name = row.op_float || `${row.op_int} (quantized only)`;
    const group = found.get(name) ?? { operator: name, layers: 0, us_float: 0, us_quantized: 0 };
    group.layers += 1;
    group.us_float += num(row.us_float) ?? 0;
    group.us_quantized += num(row.us_int) ?? 0;
    found.set(name, group);
  }
  return [...found.values()].sort((a, b) => b.us_float + b.us_quantized - a.us_float - a.us_quantized);
}

addFigure("operators", {
  height: () => 70 + 46 * Math.min(MOST, byOperator().length),
  none: "Operators were not timed.",
  draw(width) {
    const groups = byOperator().slice(0, MOST);
    if (!groups.length) return null;
    const rows = groups.flatMap((g) => [{ operator: g.operator, side: "float", us: g.us_float }, { operator: g.operator, side: "quantized", us: g.us_quantized }]);
    const { marginLeft, letters } = nameRoom(width, groups.map((g) => g.operator));
    const asFloat = hatch("var(--float)");
    const key = [{ label: "float", fill: asFloat.fill, stroke: "var(--float)" }, { label: "the same layers, quantized", fill: "var(--int)" }];
    return plot({
      width, marginLeft, marginRight: 70, key, height: this.height() + keyHeight(key, width - marginLeft - 70), marginBottom: 40,
      x: { label: "μs", domain: [0, d3.max(rows, (r) => r.us) || 1] },
      fy: { label: null, domain: groups.map((g) => g.operator), tickFormat: (name) => short(name, letters), padding: 0.22, axis: "left" },
      y: { axis: null, domain: ["float", "quantized"], padding: 0.12 },
      marks: [
        asFloat.mark, gridX(),
        Plot.barX(rows, { x: "us", y: "side", fy: "operator", fill: (r) => (r.side === "float" ? asFloat.fill : "var(--int)"), stroke: (r) => (r.side === "float" ? "var(--float)" : "none") }),
        Plot.text(rows, { x: "us", y: "side", fy: "operator", text: (r) => (r.us ? figureOf(r.us) : NONE), textAnchor: "start", dx: 6, fill: "currentColor" }),
        Plot.ruleX([0], { stroke: "currentColor" }),
      ],
    });
  },
  label: () => byOperator().slice(0, MOST).map((g) => `${g.operator}: float ${figureOf(g.us_float)}, quantized ${figureOf(g.us_quantized)} microseconds`).join("; "),
  rows: byOperator, table: true,
});

const sided = profileRows.filter((row) => num(row.lost) !== null).sort((a, b) => num(b.lost) - num(a.lost));
const extremes = () => (sided.length <= 2 * MOST ? sided : [...sided.slice(0, MOST), ...sided.slice(-MOST)]);

addFigure("lost", {
  height: () => 70 + 20 * extremes().length,
  none: "No layer was timed on both sides.",
  draw(width) {
    const rows = extremes().map((row, i) => ({ ...row, i, lost: num(row.lost) }));
    if (!rows.length) return null;
    const { marginLeft, letters } = nameRoom(width, rows.map((r) => r.layer ?? ""));
    const slow = hatch("var(--bad)", -45, 5);
    const key = [{ label: "time lost: slower than float", fill: slow.fill, stroke: "var(--bad)" }, { label: "time won", fill: "var(--third)" }];
    const [low, high] = d3.extent([0, ...rows.map((r) => r.lost)]);
    const room = ((high - low) || 1) * (width < 560 ? 0.3 : 0.12);
    return plot({
      width, marginLeft, key, height: this.height() + keyHeight(key, width - marginLeft - 16), marginBottom: 40,
      x: { label: "μs, quantized − float", domain: [low < 0 ? low - room : 0, high > 0 ? high + room : 0] },
      y: { label: null, domain: rows.map((r) => r.i), tickFormat: (i) => short(rows[i].layer || "(no name)", letters), tickSize: 0, padding: 0.25 },
      marks: [
        slow.mark, gridX(),
        Plot.barX(rows, { x: "lost", y: "i", fill: (r) => (r.lost > 0 ? slow.fill : "var(--third)"), stroke: (r) => (r.lost > 0 ? "var(--bad)" : "none") }),
        ...[1, -1].map((sign) => Plot.text(rows.filter((r) => (r.lost > 0 ? 1 : -1) === sign), {
          x: "lost", y: "i", text: (r) => `${r.lost > 0 ? "+" : ""}${figureOf(r.lost)}`, textAnchor: sign > 0 ? "start" : "end", dx: 6 * sign, fill: "currentColor",
        })),
        Plot.ruleX([0], { stroke: "currentColor" }),
      ],
    });
  },
  said: () => (sided.length > 2 * MOST ? `The ${MOST} that lose most or win least, and the ${MOST} that win most, of ${sided.length}; the table has all.` : ""),
  label: () => "Microseconds that each layer takes longer when quantized; negative is time won. The table below has the numbers.",
  rows: () => profileRows,
});

const ranked = [...(facts.sensitivity?.rows ?? [])].sort((a, b) => rank(a.alone) - rank(b.alone));

addFigure("sensitivity", {
  height: () => 70 + 20 * Math.min(25, ranked.length),
  none: "Not measured.",
  draw(width) {
    const rows = ranked.slice(0, 25).map((row, i) => ({ ...row, i, alone: num(row.alone), left: num(row.left) }));
    const values = rows.flatMap((r) => [r.alone, r.left]).filter(finite);
    if (!values.length) return null;
    const { marginLeft, letters } = nameRoom(width, rows.map((r) => r.layer ?? ""));
    const key = [{ label: "this layer alone in integers", stroke: "var(--int)", symbol: d3.symbolCircle, lineless: true }];
    const left = rows.filter((r) => finite(r.left));
    if (left.length) key.push({ label: "all in integers but this one", stroke: "var(--float)", symbol: d3.symbolDiamond, hollow: true, lineless: true });
    const [low, high] = d3.extent(values);
    return plot({
      width, marginLeft, key, height: this.height() + keyHeight(key, width - marginLeft - 16), marginBottom: 40,
      x: { label: "SQNR of the output, dB →", domain: [low - 1, high + 1], nice: true },
      y: { label: null, domain: rows.map((r) => r.i), tickFormat: (i) => short(rows[i].layer || "(no name)", letters), tickSize: 0, padding: 0.5 },
      marks: [
        gridX(), Plot.ruleY(rows, { y: "i", stroke: "var(--grid)" }),
        Plot.dot(rows.filter((r) => finite(r.alone)), { x: "alone", y: "i", r: 5, fill: "var(--int)" }),
        Plot.dot(left, { x: "left", y: "i", r: 5, symbol: "diamond", stroke: "var(--float)", strokeWidth: 1.5, fill: "var(--page)" }),
      ],
    });
  },
  said: () => (ranked.length > 25 ? `25 of ${ranked.length}; the table has all.` : ""),
  label: () => `The output's SQNR in decibels when one layer is in integers, ${facts.sensitivity?.kind}. The table below has the numbers.`,
  rows: () => ranked,
});

const forms = facts.sizes?.rows ?? [];

addFigure("sizes", {
  height: () => 60 + 34 * forms.filter((r) => num(r.file) !== null).length,
  none: "No file was measured.",
  draw(width) {
    const rows = forms.filter((r) => num(r.file) !== null);
    if (!rows.length) return null;
    const { marginLeft, letters } = nameRoom(width, rows.map((r) => r.form));
    const asFloat = hatch("var(--float)");
    const said = (r) => [`${figureOf(r.file / 1e6)} MB`, num(r.sqnr) === null ? "" : `${fixed(r.sqnr, 1)} dB`, num(r.latency) === null ? "" : `${fixed(r.latency, 2)}× the time`].filter(Boolean);
    const inside = (r) => r.file > 0.55 * d3.max(rows, (x) => x.file);
    const text = (r) => said(r).slice(0, width < 560 ? 1 : 3).join(" · ");
    return plot({
      width, marginLeft, height: this.height(), marginBottom: 40,
      x: { label: "MB", domain: [0, d3.max(rows, (r) => r.file) / 1e6] },
      y: { label: null, domain: rows.map((r) => r.form), tickFormat: (form) => short(form, letters), tickSize: 0, padding: 0.35 },
      marks: [
        asFloat.mark, gridX(),
        Plot.barX(rows, { x: (r) => r.file / 1e6, y: "form", fill: (r) => (r.form === "float" ? asFloat.fill : "var(--int)"), stroke: (r) => (r.form === "float" ? "var(--float)" : "none") }),
        Plot.text(rows.filter((r) => !inside(r)), { x: (r) => r.file / 1e6, y: "form", text, textAnchor: "start", dx: 8, fill: "currentColor" }),
        Plot.text(rows.filter(inside), { x: (r) => r.file / 1e6, y: "form", text, textAnchor: "end", dx: -8, fill: "currentColor", stroke: "var(--page)", strokeWidth: 5 }),
        Plot.ruleX([0], { stroke: "currentColor" }),
      ],
    });
  },
  label: () => "Bytes of the file of each form. The table below has the numbers.",
  rows: () => forms,
});
