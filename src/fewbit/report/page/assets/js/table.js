// Tables that sort by a click on a title, and the table of layers, which filters and is walked with the arrow keys.

const valueOf = (cell) => {
  const raw = cell.dataset.v;
  if (raw === undefined) return cell.textContent.trim().toLowerCase();
  if (raw === "") return null;
  const number = { nan: NaN, inf: Infinity, "-inf": -Infinity }[raw] ?? Number(raw);
  return cell.classList.contains("words") ? raw : number;
};

// unknown values stay at the end, whichever way; nan is worse than any number
function compare(a, b, down) {
  if (a === null || b === null) return (a === null) - (b === null);
  const key = (x) => (Number.isNaN(x) ? -Infinity : x);
  const [x, y] = [key(a), key(b)];
  const found = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x < y ? -1 : x > y ? 1 : 0;
  return down ? -found : found;
}

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => {
      const words = head.classList.contains("words");
      const before = head.getAttribute("aria-sort");
      const down = before ? before === "ascending" : !words && head !== heads.find((h) => /SQNR|dB|Cosine/.test(h.textContent) && h === head);
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [valueOf(row.cells[column]), row]);
      rows.sort((a, b) => compare(a[0], b[0], down));
      body.append(...rows.map(([, row]) => row));
      table.dispatchEvent(new Event("sorted"));
    });
  });
}

document.querySelectorAll("table.grid[data-name]").forEach(sortable);

const layerTable = $("layers-table");
const layerRows = () => [...layerTable.tBodies[0].rows].filter((row) => !row.hidden);
const idOf = (row) => Number(row.id.replace("layer-", ""));

// the layers that the table shows, in its order
const walk = () => layerRows().map(idOf);

function filterLayers() {
  const words = $("filter-name").value.toLowerCase().split(/\s+/).filter(Boolean);
  const op = $("filter-op").value, form = $("filter-form").value;
  for (const row of layerTable.tBodies[0].rows) {
    const fits = words.every((word) => row.dataset.name.includes(word));
    row.hidden = !(fits && (!op || row.dataset.op === op) && (!form || row.dataset.form === form));
  }
  const shown = layerRows().length, all = layerTable.tBodies[0].rows.length;
  $("filter-count").textContent = shown === all ? `${all} layers` : `${shown} of ${all} layers`;
  $("filter-clear").hidden = shown === all;
  rove();
}

// one row of the table is in the order of the Tab key: the chosen one, or the first
function rove(to) {
  const rows = layerRows();
  const active = to ?? rows.find((row) => chosen && idOf(row) === chosen.id) ?? rows[0];
  for (const row of layerTable.tBodies[0].rows) row.cells[0].firstElementChild.tabIndex = row === active ? 0 : -1;
  return active;
}

function onKey(event) {
  if (!event.target.closest("tbody")) return;
  const rows = layerRows();
  const at = rows.indexOf(event.target.closest("tr"));
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1, PageDown: at + 10, PageUp: at - 10 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const row = rows[Math.max(0, Math.min(rows.length - 1, to))];
  rove(row);
  row.cells[0].firstElementChild.focus();
  inSight(row);
}

// scrolls the box of the table, not the page; the titles stay free
function inSight(row) {
  const box = layerTable.closest(".scroll"), head = layerTable.tHead.offsetHeight;
  const top = row.getBoundingClientRect().top - box.getBoundingClientRect().top - head - layerTable.caption.offsetHeight * 0;
  if (top < 0) box.scrollTop += top;
  else if (top + head + row.offsetHeight > box.clientHeight) box.scrollTop += top + head + row.offsetHeight - box.clientHeight;
}

if (layerTable) {
  const filters = document.querySelector(".filters");
  filters.hidden = false;
  filters.addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["filter-name", "filter-op", "filter-form"]) $(id).addEventListener("input", filterLayers);
  $("filter-clear").addEventListener("click", () => {
    for (const id of ["filter-name", "filter-op", "filter-form"]) $(id).value = "";
    filterLayers();
    $("filter-name").focus();
  });
  layerTable.addEventListener("keydown", onKey);
  layerTable.addEventListener("sorted", () => (rove(), walked()));
  layerTable.tBodies[0].addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && !event.target.closest("a") && !String(getSelection())) choose(idOf(row), { scroll: true });
  });
  filterLayers(); // a browser may bring back what was typed before
}
