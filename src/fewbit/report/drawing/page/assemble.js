// What can be seen with these groups open, as lines of DOT: the same text as `dot.assemble` makes in Python.
function assemble(stage, opened) {
  const inside = new Map(), parent = new Map(), lines = [];
  for (const item of stage.items) {
    if (!inside.has(item[1])) inside.set(item[1], []);
    inside.get(item[1]).push(item);
    parent.set(item[0], item[1]);
  }
  const write = (group) => {
    for (const [id, , line] of inside.get(group) ?? []) {
      if (Object.hasOwn(stage.frames, id) && opened.has(id)) {
        lines.push(`subgraph "cluster_${id}" {`, stage.frames[id]);
        write(id);
        lines.push("}");
      } else lines.push(line);
    }
  };
  write("");
  const drawn = new Set(), said = new Set();
  for (const [tail, head, wire] of stage.edges) {
    const a = seen(parent, opened, tail), b = seen(parent, opened, head), edge = `${a} ${b} ${wire}`;
    if (a === b || drawn.has(edge)) continue;
    drawn.add(edge);
    lines.push(`${a} -> ${b} [${stage.wires[wire][said.has(wire) ? 1 : 0]}]`);
    said.add(wire);
  }
  return lines;
}

// The box itself, or the outermost folded group that it is in.
function seen(parent, opened, id) {
  let box = id;
  for (let at = parent.get(id); at; at = parent.get(at)) if (!opened.has(at)) box = at;
  return box;
}
