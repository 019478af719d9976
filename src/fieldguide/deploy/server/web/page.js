const TOGETHER = 4;  // requests at once: the server computes them together
let token = "";

const headers = () => (token ? { Authorization: `Bearer ${token}` } : {});
const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

async function asked(path, options = {}) {
  let answer;
  do {
    answer = await fetch(path, { ...options, headers: headers() });
    if (answer.status === 503) await wait(Number(answer.headers.get("Retry-After") ?? 1));
  } while (answer.status === 503);
  const content = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(content.error), { status: answer.status });
  return content;
}

async function predicted(file) {
  const row = { name: file.name || "pasted photo", url: URL.createObjectURL(file), top: [], error: "" };
  try {
    const [answer] = (await asked("predict", { method: "POST", body: file })).predictions;
    row.top = answer.top ?? [];
    row.error = answer.error ?? "";
  } catch (error) {
    row.error = error.message;
  }
  return row;
}

async function take(files) {
  let next = 0, done = 0;
  const found = [];
  const work = async () => {
    while (next < files.length) {
      const place = next++;
      found[place] = await predicted(files[place]);
      by("status").textContent = `Photo ${++done} of ${files.length}`;
    }
  };
  await Promise.all(Array.from({ length: TOGETHER }, work));
  rows.push(...found);
  show();
  tellDone();
}

async function begin() {
  try {
    const [model] = (await asked("v2")).models;
    const { classes } = await asked(`v2/models/${model}`);
    tellClasses(classes);
    tellReady();
    by("ask").hidden = true;
  } catch (error) {
    by("ask").hidden = error.status !== 401;
    by("status").textContent = error.status === 401 ? "This server needs its token." : `The server does not answer: ${error.message}.`;
  }
}

let turn = begin();
listen((files) => { turn = turn.then(() => take(files)); });
by("ask").addEventListener("submit", (event) => { event.preventDefault(); token = by("token").value.trim(); turn = begin(); });
