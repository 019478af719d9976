// What the offline page and the server's page share: rows of answers, shown as a card or a table, saved as a CSV.
const by = (id) => document.getElementById(id);
const rows = [];  // of { name, url, top: [{ label, confidence }, ...], error }

function made(kind, text, name) {
  const element = document.createElement(kind);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;

function statusOf(row) {
  if (row.error) return `failed: ${row.error}`;
  return row.top[0].confidence < Number(by("below").value) ? "unsure" : "ok";
}

function card(row) {
  const part = made("section"), one = made("div", undefined, "one"), list = made("ol"), image = made("img"), status = statusOf(row);
  image.src = row.url;
  image.alt = row.name;
  for (const { label, confidence } of row.top) {
    const item = made("li"), bar = made("div", undefined, "bar"), fill = made("i");
    fill.style.width = `${100 * confidence}%`;
    bar.append(fill);
    item.append(made("span", label), made("span", percent(confidence)), bar);
    list.append(item);
  }
  const right = made("div");
  right.append(made("p", status, status === "ok" ? "quiet" : status.split(":")[0]), list);
  one.append(image, right);
  part.append(made("h2", row.name), one);
  return part;
}

function table() {
  const wrap = made("div", undefined, "scroll"), own = made("table"), head = made("tr");
  own.append(made("caption", `${rows.length} photos`));
  for (const name of ["image", "label", "confidence", "status"]) {
    const cell = made("th", name, name === "confidence" ? "number" : undefined);
    cell.scope = "col";
    head.append(cell);
  }
  own.append(head);
  for (const row of rows) {
    const line = made("tr"), status = statusOf(row), first = row.top[0];
    line.append(made("td", row.name), made("td", first?.label ?? ""), made("td", first ? percent(first.confidence) : "", "number"));
    line.append(made("td", status, status === "ok" ? undefined : status.split(":")[0]));
    own.append(line);
  }
  wrap.append(own);
  wrap.tabIndex = 0;
  wrap.setAttribute("role", "region");
  wrap.setAttribute("aria-label", "Answers");
  return wrap;
}

function show() {
  by("answers").replaceChildren(...(rows.length === 1 ? [card(rows[0])] : rows.length ? [table()] : []));
  by("saving").hidden = !rows.length;
}

const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function save() {
  const lines = rows.map((row) => {
    const first = row.top[0];
    return [row.name, first?.label ?? "", first ? first.confidence.toFixed(6) : "", statusOf(row)].map(quoted).join(",");
  });
  const link = made("a");
  link.href = URL.createObjectURL(new Blob([["image,label,confidence,status", ...lines].join("\n") + "\n"], { type: "text/csv" }));
  link.download = "prediction.csv";
  link.click();
}

function tellClasses(classes) {
  by("about").textContent = `${classes.length} classes: ${classes.slice(0, 8).join(", ")}${classes.length > 8 ? ", ..." : ""}`;
}

function tellDone() {
  by("status").textContent = `${rows.length} ${rows.length === 1 ? "photo" : "photos"} done.`;
}

function tellReady() {
  by("status").textContent = "Ready.";
  for (const id of ["files", "camera"]) by(id).disabled = false;
}

// Calls `give` with the files that a person chooses, drops or pastes; there is at least one.
function listen(give) {
  const some = (files) => { if (files.length) give([...files]); };
  for (const id of ["files", "camera"]) {
    by(id).addEventListener("change", () => { some(by(id).files); by(id).value = ""; });
  }
  addEventListener("dragover", (event) => { event.preventDefault(); by("drop").classList.add("over"); });
  addEventListener("dragleave", () => by("drop").classList.remove("over"));
  addEventListener("drop", (event) => { event.preventDefault(); by("drop").classList.remove("over"); some(event.dataTransfer.files); });
  addEventListener("paste", (event) => some(event.clipboardData.files));
  by("below").addEventListener("input", show);
  by("save").addEventListener("click", save);
  by("clear").addEventListener("click", () => { rows.length = 0; show(); by("status").textContent = "Ready."; by("files").focus(); });
}

