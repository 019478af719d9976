"""The code of EXPORT.md, by runtime: language, what Markdown calls it, and the code; MODEL is the file."""

PHOTO = 'photo = np.array(ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB"))'

ONNX_PYTHON = f"""
import numpy as np, onnxruntime
from PIL import Image, ImageOps
session = onnxruntime.InferenceSession("MODEL")
{PHOTO}
probabilities = session.run(["probabilities"], {{"photos": photo[None]}})[0][0]
print(probabilities.argmax(), probabilities.max())
"""
ONNX_JAVASCRIPT = """
const ort = require("onnxruntime-node"), sharp = require("sharp");  // npm install onnxruntime-node sharp
const session = await ort.InferenceSession.create("MODEL");
const photo = sharp("photo.jpg").rotate().flatten({ background: "#fff" }).toColourspace("srgb");
const { data, info } = await photo.raw().toBuffer({ resolveWithObject: true });
const photos = new ort.Tensor("uint8", data, [1, info.height, info.width, 3]);
console.log((await session.run({ photos })).probabilities.data);
"""
ONNX_CSHARP = """
// dotnet add package Microsoft.ML.OnnxRuntime; dotnet add package SixLabors.ImageSharp
using var session = new InferenceSession("MODEL");
using var image = Image.Load<Rgb24>("photo.jpg"); image.Mutate(it => it.AutoOrient());
var pixels = new byte[image.Width * image.Height * 3]; image.CopyPixelDataTo(pixels);
using var photos = OrtValue.CreateTensorValueFromMemory(pixels, new long[] { 1, image.Height, image.Width, 3 });
using var answers = session.Run(new RunOptions(), ["photos"], [photos], ["probabilities"]);
Console.WriteLine(string.Join(" ", answers[0].GetTensorDataAsSpan<float>().ToArray()));
"""
OPENVINO_PYTHON = f"""
import numpy as np, openvino
from PIL import Image, ImageOps
model = openvino.Core().compile_model("MODEL", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
{PHOTO}
probabilities = model(photo[None])[0][0]
print(probabilities.argmax(), probabilities.max())
"""
OPENVINO_JAVASCRIPT = """
const { addon: ov } = require("openvino-node"), sharp = require("sharp");  // npm install openvino-node sharp
const model = await new ov.Core().compileModel("MODEL", "CPU", { INFERENCE_PRECISION_HINT: "f32" });
const photo = sharp("photo.jpg").rotate().flatten({ background: "#fff" }).toColourspace("srgb");
const { data, info } = await photo.raw().toBuffer({ resolveWithObject: true });
const photos = new ov.Tensor(ov.element.u8, [1, info.height, info.width, 3], new Uint8Array(data));
console.log((await model.createInferRequest().inferAsync({ photos })).probabilities.data);
"""
TORCH_PYTHON = f"""
import numpy as np, torch
from PIL import Image, ImageOps
model = torch.export.load("MODEL").module()
{PHOTO}
probabilities = model(torch.from_numpy(photo[None]))[0]
print(int(probabilities.argmax()), float(probabilities.max()))
"""
ELSEWHERE = "// {} does not run this format: fieldguide export RUN -o FOLDER --format onnx"

CODE = {
    "onnx": (
        ("Python", "python", ONNX_PYTHON),
        ("JavaScript", "javascript", ONNX_JAVASCRIPT),
        ("C#", "csharp", ONNX_CSHARP),
    ),
    "openvino": (
        ("Python", "python", OPENVINO_PYTHON),
        ("JavaScript", "javascript", OPENVINO_JAVASCRIPT),
        ("C#", "csharp", ELSEWHERE.format("OpenVINO's own C#")),
    ),
    "torch": (
        ("Python", "python", TORCH_PYTHON),
        ("JavaScript", "javascript", ELSEWHERE.format("JavaScript")),
        ("C#", "csharp", ELSEWHERE.format("C#")),
    ),
}
