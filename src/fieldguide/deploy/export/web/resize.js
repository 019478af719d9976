// Pillow's resize in whole numbers, as the training used it: weights in 22 bits, rounded after each of two passes.
const BITS = 2 ** 22;

const FILTERS = {
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (x) => {
    x = Math.abs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
  }],
};

// For `count` new pixels from `first` on, of a line of `size` that becomes `resized`: where each begins, and its weights.
function weightsOf(size, resized, first, count, [support, filter]) {
  const step = size / resized, scale = Math.max(step, 1), reach = support * scale;
  return Array.from({ length: count }, (_, place) => {
    const middle = (first + place + 0.5) * step;
    const begin = Math.max(0, Math.trunc(middle - reach + 0.5)), end = Math.min(size, Math.trunc(middle + reach + 0.5));
    const found = [];
    let sum = 0;
    for (let x = begin; x < end; x++) {
      found.push(filter((x - middle + 0.5) / scale));
      sum += found.at(-1);
    }
    const whole = found.map((weight) => (weight < 0 ? Math.trunc(weight / sum * BITS - 0.5) : Math.trunc(weight / sum * BITS + 0.5)));
    return [begin, Float64Array.from(whole)];
  });
}

const rounded = (sum) => Math.min(255, Math.max(0, Math.floor(sum / BITS + 0.5)));

// {width, height, data: RGB bytes} to a part of itself resized; `box` is [left, top, width, height] of the result.
function resize(photo, width, height, interpolation, box = [0, 0, width, height]) {
  const [left, top, newWidth, newHeight] = box, filter = FILTERS[interpolation];
  const rows = weightsOf(photo.height, height, top, newHeight, filter);
  const columns = weightsOf(photo.width, width, left, newWidth, filter);
  // Pillow 13 begins with the rows where that saves the most
  const rowsFirst = photo.height - height > 2 * (photo.width - width) && photo.height - height > 0;
  const passes = [(from) => across(from, columns), (from) => down(from, rows)];
  return (rowsFirst ? passes.reverse() : passes).reduce((from, pass) => pass(from), photo);
}

function across({ width, height, data }, columns) {
  const made = new Uint8Array(columns.length * height * 3);
  for (let y = 0, to = 0; y < height; y++) {
    for (const [begin, own] of columns) {
      let r = 0, g = 0, b = 0, place = (y * width + begin) * 3;
      for (let k = 0; k < own.length; k++, place += 3) {
        r += own[k] * data[place]; g += own[k] * data[place + 1]; b += own[k] * data[place + 2];
      }
      made[to++] = rounded(r); made[to++] = rounded(g); made[to++] = rounded(b);
    }
  }
  return { width: columns.length, height, data: made };
}

function down({ width, data }, rows) {
  const stride = width * 3, made = new Uint8Array(stride * rows.length);
  rows.forEach(([begin, own], y) => {
    for (let x = 0; x < stride; x++) {
      let sum = 0;
      for (let k = 0; k < own.length; k++) sum += own[k] * data[(begin + k) * stride + x];
      made[y * stride + x] = rounded(sum);
    }
  });
  return { width, height: rows.length, data: made };
}

// Half of a number as Python rounds it.
const half = (number) => Math.floor(number / 2) + (number % 2) * (Math.floor(number / 2) % 2);

const MOST_SIDE = 4096;

// A photo that is not square, as data.fit says.
function fitted(photo, fit) {
  const { width, height } = photo;
  if (fit === "crop" || width === height) return photo;
  const side = Math.min(Math.max(width, height), MOST_SIDE);
  if (fit === "squash") return resize(photo, side, side, "bilinear");
  const scale = side / Math.max(width, height);
  const [w, h] = [width, height].map((each) => Math.max(1, Math.round(each * scale)));
  const small = w === width && h === height ? photo : resize(photo, w, h, "bilinear");
  const data = new Uint8Array(side * side * 3).fill(128), left = Math.floor((side - w) / 2), top = Math.floor((side - h) / 2);
  for (let y = 0; y < h; y++) data.set(small.data.subarray(y * w * 3, (y + 1) * w * 3), ((top + y) * side + left) * 3);
  return { width: side, height: side, data };
}

// What the model takes: the shorter side resized, the centre cut out.
function centre(photo, { image_size_px: crop, resize_px: short, interpolation, fit = "crop" }) {
  const square = fitted(photo, fit), shorter = Math.min(square.width, square.height);
  const width = Math.floor(short * square.width / shorter), height = Math.floor(short * square.height / shorter);
  return resize(square, width, height, interpolation, [half(width - crop), half(height - crop), crop, crop]);
}
