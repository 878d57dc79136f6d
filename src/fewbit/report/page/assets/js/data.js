// The facts of the report, and how their numbers are read and written: "nan", "inf" and "-inf" are texts in JSON.

const facts = JSON.parse(document.getElementById("facts").textContent);
const layers = facts.layers ?? [];
const NONE = "–";

let chosen = null; // the layer that is shown in full

const $ = (id) => document.getElementById(id);

function num(x) {
  if (typeof x === "number") return x;
  return { nan: NaN, inf: Infinity, "-inf": -Infinity }[x] ?? null;
}

const finite = (x) => typeof x === "number" && Number.isFinite(x);

function fixed(x, digits) {
  const value = num(x);
  if (value === null) return NONE;
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const text = value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return /^-0(\.0*)?$/.test(text) ? text.slice(1) : text.replace("-", "−");
}

// three significant digits, for values of any magnitude
function figureOf(x) {
  const value = num(x);
  if (!finite(value)) return fixed(value, 0);
  if (value && Math.abs(value) < 1e-3) return value.toExponential(2).replace("e", "e").replaceAll("-", "−");
  return fixed(value, !value || Math.abs(value) >= 100 ? 0 : 2 - Math.floor(Math.log10(Math.abs(value))));
}

const percent = (x, digits) => (num(x) === null ? NONE : `${fixed(num(x) * 100, digits)} %`);

function big(count) {
  const value = num(count);
  if (value === null) return NONE;
  for (const [unit, factor] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) if (value >= factor) return `${fixed(value / factor, 2)} ${unit}`;
  return String(value);
}

// both ends of a name tell layers apart, its middle does not
function short(name, width) {
  if (name.length <= width) return name;
  const back = Math.floor(((width - 1) * 2) / 3);
  return `${name.slice(0, width - 1 - back)}…${name.slice(name.length - back)}`;
}

const nameOf = (layer) => layer.node || layer.name || "(no name)";

// worst first: nan before all, unknown last
function rank(x) {
  const value = num(x);
  return value === null ? Infinity : Number.isNaN(value) ? -Infinity : value === Infinity ? Number.MAX_VALUE : value;
}

const worstFirst = [...layers].sort((a, b) => rank(a.sqnr) - rank(b.sqnr));

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "click") made.addEventListener("click", value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}
