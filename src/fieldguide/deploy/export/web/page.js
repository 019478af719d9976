const by = (id) => document.getElementById(id);
const told = JSON.parse(by("description").textContent);
const MOST_PIXELS = told.max_megapixels * 1e6;

const bytesOf = (text) => Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));

async function unpacked(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Asks a canvas for the pixels: upright, and transparency on white.
async function decoded(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error("cannot be decoded by this browser");
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new Error(`has ${width} x ${height} pixels, over ${told.max_megapixels} megapixels`);
  const pixels = rgba(bitmap, width, height), data = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < data.length; from += 4, to += 3) {
    const alpha = pixels[from + 3];
    for (let c = 0; c < 3; c++) {
      const value = pixels[from + c];
      data[to + c] = alpha === 255 ? value : Math.round((value * alpha + 255 * (255 - alpha)) / 255);
    }
  }
  return { width, height, data };
}

// A canvas multiplies colours by alpha, and divides them again: laid on white, both give the same.
function rgba(bitmap, width, height) {
  const canvas = new OffscreenCanvas(width, height).getContext("2d", { colorSpace: "srgb" });
  canvas.drawImage(bitmap, 0, 0);
  const pixels = canvas.getImageData(0, 0, width, height).data;
  if (!pixels.some((value) => value > 0)) throw new Error("is too large for this browser");  // some draw nothing then
  return pixels;
}

let ort, session;

async function load() {
  const source = new TextDecoder().decode(await unpacked(by("runtime").textContent));
  ort = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  ort.env.wasm.wasmBinary = (await unpacked(by("wasm").textContent)).buffer;
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  session = await ort.InferenceSession.create(await unpacked(by("model").textContent), { executionProviders: ["wasm"] });
  for (const id of ["runtime", "wasm", "model"]) by(id).remove();
}

async function probabilities(file) {
  const input = centre(await decoded(file), told.preprocessing), side = input.width;
  const { probabilities } = await session.run({ photos: new ort.Tensor("uint8", input.data, [1, side, side, 3]) });
  return Array.from(probabilities.data);
}

// The page holds samples, and compares its answers with the trained model's before it gives any.
async function check() {
  for (const sample of JSON.parse(by("samples").textContent)) {
    const found = await probabilities(new Blob([bytesOf(sample.content)]));
    const most = Math.max(...found.map((value, place) => Math.abs(value - sample.probabilities[place])));
    if (!(most < 0.01)) throw new Error(`this browser gives other answers than the trained model (by ${most.toFixed(3)})`);
  }
}

const rows = [];

function statusOf(row) {
  if (row.reason) return `failed: ${row.reason}`;
  return row.top[0][1] < Number(by("below").value) ? "unsure" : "ok";
}

function made(kind, text, name) {
  const element = document.createElement(kind);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;

function card(row) {
  const part = made("section"), one = made("div", undefined, "one"), list = made("ol"), image = made("img"), status = statusOf(row);
  image.src = row.url;
  image.alt = row.name;
  for (const [name, value] of row.top) {
    const item = made("li"), bar = made("div", undefined, "bar"), fill = made("i");
    fill.style.width = `${100 * value}%`;
    bar.append(fill);
    item.append(made("span", name), made("span", percent(value)), bar);
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
    const line = made("tr"), status = statusOf(row), first = row.top[0] ?? ["", undefined];
    line.append(made("td", row.name), made("td", first[0]), made("td", first[1] === undefined ? "" : percent(first[1]), "number"));
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

async function take(files) {
  let done = 0;
  for (const file of files) {
    by("status").textContent = `Photo ${++done} of ${files.length}`;
    const row = { name: file.name || "pasted photo", url: URL.createObjectURL(file), top: [], all: [], reason: "" };
    try {
      row.all = await probabilities(file);
      row.top = row.all.map((value, place) => [told.classes[place], value]).sort((a, b) => b[1] - a[1]).slice(0, 5);
    } catch (error) {
      row.reason = error.message;
    }
    rows.push(row);
    show();
    await new Promise((resolve) => setTimeout(resolve));  // lets the page draw
  }
  by("status").textContent = `${rows.length} ${rows.length === 1 ? "photo" : "photos"} done.`;
}

const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function save() {
  const lines = rows.map((row) => {
    const [label, value] = row.top[0] ?? ["", undefined];
    return [row.name, label, value === undefined ? "" : value.toFixed(6), statusOf(row)].map(quoted).join(",");
  });
  const link = made("a");
  link.href = URL.createObjectURL(new Blob([["image,label,confidence,status", ...lines].join("\n") + "\n"], { type: "text/csv" }));
  link.download = "prediction.csv";
  link.click();
}

let turn = load().then(check);
const inTurn = (files) => { if (files.length) turn = turn.then(() => take(files)).catch(fail); };
function fail(error) { by("status").textContent = `This page cannot work here: ${error.message}.`; }

by("about").textContent = `${told.classes.length} classes: ${told.classes.slice(0, 8).join(", ")}${told.classes.length > 8 ? ", ..." : ""}`;
for (const id of ["files", "camera"]) {
  by(id).addEventListener("change", () => { inTurn([...by(id).files]); by(id).value = ""; });
}
addEventListener("dragover", (event) => { event.preventDefault(); by("drop").classList.add("over"); });
addEventListener("dragleave", () => by("drop").classList.remove("over"));
addEventListener("drop", (event) => { event.preventDefault(); by("drop").classList.remove("over"); inTurn([...event.dataTransfer.files]); });
addEventListener("paste", (event) => inTurn([...event.clipboardData.files]));
by("below").addEventListener("input", show);
by("save").addEventListener("click", save);
by("clear").addEventListener("click", () => { rows.length = 0; show(); by("status").textContent = "Ready."; by("files").focus(); });
turn.then(() => {
  by("status").textContent = "Ready.";
  for (const id of ["files", "camera"]) by(id).disabled = false;
  window.fieldguide = { probabilities, rows };
}).catch(fail);
