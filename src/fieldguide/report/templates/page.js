"use strict";
// Sorts a table by the column whose heading is clicked; the first click puts the largest number, or A, first.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th"), table = button.closest("table"), body = table.tBodies[0];
    const column = heading.cellIndex, rows = [...body.rows];
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const isNumber = heading.dataset.kind === "number";
    const before = heading.getAttribute("aria-sort");
    const descending = before ? before === "ascending" : isNumber;
    const collator = new Intl.Collator(undefined, { numeric: true });
    rows.sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === "" || y === "") return (x === "") - (y === ""); // cells without a value stay at the end
      const order = isNumber ? Number(x) - Number(y) : collator.compare(x, y);
      return descending ? -order : order;
    });
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    body.append(...rows);
  });
}

// Shows the count of a cell of the matrix, for mouse, finger and pen.
for (const matrix of document.querySelectorAll(".matrix")) {
  const readout = document.getElementById(matrix.dataset.readout), start = readout.textContent;
  const names = [...matrix.querySelectorAll(".rows text")], columns = [...matrix.querySelectorAll(".columns text")];
  const cells = matrix.querySelector(".cells svg"), [across, down] = matrix.querySelectorAll(".band");
  const side = Number(matrix.dataset.cell);
  const counts = new Map();
  for (const cell of matrix.querySelectorAll("[data-n]")) {
    counts.set(cell.getAttribute("x") / side + "," + cell.getAttribute("y") / side, cell.dataset.n);
  }
  const clear = () => {
    for (const label of matrix.querySelectorAll(".lit")) label.classList.remove("lit");
    across.style.visibility = down.style.visibility = "hidden";
    readout.textContent = start;
  };
  const show = (event) => {
    const box = cells.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / box.width * names.length);
    const row = Math.floor((event.clientY - box.top) / box.height * names.length);
    if (!names[row] || !columns[column]) return;
    clear();
    names[row].classList.add("lit");
    columns[column].classList.add("lit");
    across.setAttribute("y", row * side);
    down.setAttribute("x", column * side);
    across.style.visibility = down.style.visibility = "visible";
    const count = counts.get(column + "," + row) ?? 0, images = names[row].dataset.images;
    const actual = names[row].dataset.name, predicted = columns[column].dataset.name;
    readout.textContent = row === column
      ? `${actual}: ${count} of ${images} right`
      : `${actual} predicted as ${predicted}: ${count} of ${images}`;
  };
  cells.addEventListener("pointermove", show);
  cells.addEventListener("pointerdown", show);
  cells.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") clear(); });
}

// Paper has no folds.
addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("details")) part.open = true; });
