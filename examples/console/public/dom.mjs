/*
 * dom.mjs: the page's elements. Whatever comes from PostgreSQL becomes a text node: there is no innerHTML in these files.
 *
 * What is there is changed in place, so that a selection, the focus and what a screen reader says stay.
 */
export const byId = (id) => document.getElementById(id);

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function show(node, visible) {
  node.hidden = !visible;
}

export function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// As many children as there are items, each made by `create` and then filled by `fill`
export function each(parent, items, create, fill) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  items.forEach((item, i) => {
    if (!parent.children[i]) parent.append(create());
    fill(parent.children[i], item);
  });
}

/*
 * A table of columns { title, value, number, code, mark, part }: value gives the text of a row; mark its kind ("ok", "busy",
 * "bad"); part a share of one, drawn as a bar behind the text.
 */
export function fillTable(place, columns, rows, title) {
  let table = place.querySelector("table");
  if (!table) {
    table = make("table");
    table.append(make("caption", "", title), make("thead"), make("tbody"));
    const head = make("tr");
    for (const column of columns) {
      const cell = make("th", column.number ? "number" : "", column.title);
      cell.scope = "col";
      head.append(cell);
    }
    table.tHead.append(head);
    place.append(table);
  }
  each(table.tBodies[0], rows, () => makeRow(columns), (line, row) => columns.forEach((column, i) => fillCell(line.cells[i], column, row)));
}

function makeRow(columns) {
  const line = make("tr");
  for (const column of columns) {
    const cell = make("td", column.number ? "number" : "");
    cell.dataset.title = column.title;
    cell.append(make(column.code ? "code" : "span"));
    line.append(cell);
  }
  return line;
}

function fillCell(cell, column, row) {
  const text = column.value(row);
  setText(cell.firstChild, text);
  cell.classList.toggle("empty", text === "" || text === "–");
  if (column.mark) cell.dataset.mark = column.mark(row) ?? "";
  if (column.part) cell.style.setProperty("--part", String(column.part(row) ?? 0));
}
