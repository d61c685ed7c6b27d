"use strict";
// Shows what is known of a mark of the heat map, and hides rows. Texts only ever become text.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("heatmap");
  if (!table) return;
  const panel = document.getElementById("details");
  const rows = Array.from(table.tBodies[0].rows);
  const NAMES = ["Result", "Why", "Remedy", "Evidence", "Value", "Read at", "Excepted"];
  let current = null;

  const element = (name, text) => {
    const made = document.createElement(name);
    made.textContent = text;
    return made;
  };

  const known = (cell) => {
    const [name, results] = data.sandboxes[rows.indexOf(cell.parentNode)];
    const column = cell.cellIndex - 1;
    const texts = (numbers) => numbers.map((number) => data.texts[number]);
    const control = texts(data.controls[column]);
    return { name: data.texts[name], control, result: results[column] ? texts(results[column]) : null };
  };

  const show = (cell) => {
    const { name, control, result } = known(cell);
    const list = document.createElement("dl");
    const add = (term, text) => {
      if (text) list.append(element("dt", term), element("dd", text));
    };
    if (result) NAMES.forEach((term, place) => add(term, result[place]));
    else add("Result", "not a control of this backend");
    add("Severity", control[1]);
    add("Level", control[2]);
    add("What it means", control[4]);
    add("At stake", control[5]);
    add("Also asked for by", control[3]);
    add("More", control[6]);
    const close = element("button", "Close");
    close.type = "button";
    close.addEventListener("click", hide);
    panel.replaceChildren(close, element("h3", `${control[0]}: ${name}`), list);
    panel.hidden = false;
  };

  const hide = () => {
    panel.hidden = true;
    if (current) current.focus();
  };

  const choose = (cell, { focus = true } = {}) => {
    if (current) {
      current.tabIndex = -1;
      current.removeAttribute("aria-selected");
    }
    current = cell;
    cell.tabIndex = 0;
    cell.setAttribute("aria-selected", "true");
    if (focus) cell.focus();
  };

  const visible = () => rows.filter((row) => !row.hidden);

  const moved = (event) => {
    const those = visible();
    const row = those.indexOf(current.parentNode);
    const column = current.cellIndex;
    const last = current.parentNode.cells.length - 1;
    const whole = event.ctrlKey || event.metaKey;
    const to = {
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column],
      PageUp: [Math.max(0, row - 10), column],
      PageDown: [Math.min(those.length - 1, row + 10), column],
      Home: [whole ? 0 : row, 1],
      End: [whole ? those.length - 1 : row, last],
    }[event.key];
    return to && to[1] >= 1 && those[to[0]] ? those[to[0]].cells[to[1]] : to ? current : undefined;
  };

  table.addEventListener("keydown", (event) => {
    if (!current) return;
    const cell = moved(event);
    if (cell) {
      choose(cell);
      if (!panel.hidden) show(cell);
    } else if (event.key === "Enter" || event.key === " ") show(current);
    else return;
    event.preventDefault();
  });

  table.addEventListener("click", (event) => {
    const cell = event.target.closest("tbody td");
    if (!cell) return;
    choose(cell);
    show(cell);
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !panel.hidden) hide();
  });

  const named = document.getElementById("named");
  const judged = document.getElementById("judged");
  const filter = () => {
    const wanted = named.value.trim().toLowerCase();
    let count = 0;
    rows.forEach((row, place) => {
      const name = data.texts[data.sandboxes[place][0]];
      const judgedSo = !judged.value || row.dataset.verdict === judged.value;
      row.hidden = !(judgedSo && name.includes(wanted));
      if (!row.hidden) count += 1;
    });
    document.getElementById("shown").textContent = `${count} of ${rows.length} shown`;
    const those = visible();
    if (those.length && (!current || current.parentNode.hidden)) choose(those[0].cells[1], { focus: false });
  };
  named.addEventListener("input", filter);
  judged.addEventListener("change", filter);

  table.setAttribute("role", "grid");
  table.setAttribute("aria-readonly", "true");
  document.getElementById("filters").hidden = false;
  document.getElementById("hint").hidden = false;
  filter();
})();
