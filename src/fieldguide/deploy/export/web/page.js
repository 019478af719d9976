const told = JSON.parse(by("description").textContent);
const MOST_PIXELS = told.max_megapixels * 1e6;

const bytesOf = (text) => Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));

// The bytes of a part: packed into the page, or a file beside it.
async function part(id) {
  const { file } = by(id).dataset;
  if (file === undefined) return unpacked(by(id).textContent);
  if (location.protocol === "file:") throw new Error("its parts are files, which a browser reads through a web server alone: python -m http.server");
  const answer = await fetch(file);
  if (!answer.ok) throw new Error(`${file} cannot be loaded (${answer.status})`);
  return new Uint8Array(await answer.arrayBuffer());
}

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
  const source = new TextDecoder().decode(await part("runtime"));
  ort = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  ort.env.wasm.wasmBinary = (await part("wasm")).buffer;
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  session = await ort.InferenceSession.create(await part("model"), { executionProviders: ["wasm"] });
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

async function take(files) {
  let done = 0;
  for (const file of files) {
    by("status").textContent = `Photo ${++done} of ${files.length}`;
    const row = { name: file.name || "pasted photo", url: URL.createObjectURL(file), top: [], all: [], error: "" };
    try {
      row.all = await probabilities(file);
      const named = row.all.map((confidence, place) => ({ label: told.classes[place], confidence }));
      row.top = named.sort((a, b) => b.confidence - a.confidence).slice(0, 5);
    } catch (error) {
      row.error = error.message;
    }
    rows.push(row);
    show();
    await new Promise((resolve) => setTimeout(resolve));  // lets the page draw
  }
  tellDone();
}

let turn = load().then(check);
function fail(error) { by("status").textContent = `This page cannot work here: ${error.message}.`; }

tellClasses(told.classes);
listen((files) => { turn = turn.then(() => take(files)).catch(fail); });
turn.then(() => {
  tellReady();
  window.fieldguide = { probabilities, rows };
}).catch(fail);
