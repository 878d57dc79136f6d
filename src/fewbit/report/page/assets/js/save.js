// What the page hands out: tables as CSV or JSON, pictures as SVG. All is made here; nothing is asked of a server.

function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = element("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const stem = () => (facts.title || "report").replace(/[^\w.-]+/g, "-").slice(0, 60);

function csv(rows) {
  const heads = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cell = (x) => {
    let text = x === null || x === undefined ? "" : String(x);
    if (typeof x === "string" && /^[=+@\t\r]/.test(text)) text = `'${text}`; // a spreadsheet would compute it
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [heads, ...rows.map((row) => heads.map((h) => row[h]))].map((line) => line.map(cell).join(",")).join("\n") + "\n";
}

const json = (data) => JSON.stringify(data, (_, x) => (typeof x === "number" && !Number.isFinite(x) ? String(x) : x), 1) + "\n";

const PAINT = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "fill-opacity", "opacity", "color",
  "font-family", "font-size", "font-weight", "font-variant-numeric", "text-anchor", "paint-order"];

// A picture that stands alone: what style sheets and variables give it is written into it.
function picture(svg) {
  const copy = svg.cloneNode(true);
  const olds = [svg, ...svg.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((node, i) => {
    if (node.tagName === "style") return;
    const style = getComputedStyle(olds[i]);
    node.removeAttribute("style");
    node.removeAttribute("class");
    for (const key of PAINT) {
      const value = style.getPropertyValue(key);
      if (value) node.setAttribute(key, value.replace(/url\("?[^#"]*(#[^")]*)"?\)/, "url($1)"));
    }
  });
  copy.querySelectorAll("style").forEach((node) => node.remove());
  const [, , width, height] = (svg.getAttribute("viewBox") || `0 0 ${svg.clientWidth} ${svg.clientHeight}`).split(/[ ,]+/);
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.prepend(shape("rect", { width: "100%", height: "100%", fill: getComputedStyle(document.documentElement).backgroundColor }));
  return new XMLSerializer().serializeToString(copy);
}
