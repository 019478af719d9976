"""EXPORT.md: what a file takes and gives, what was proven, and code that runs it."""

from typing import Any

from fieldguide.commands.exporting.code import CODE
from fieldguide.errors import counted

MOST_CLASSES = 12


def page_of(content: dict[str, Any]) -> str:
    """The page as Markdown, from what `export.json` says."""
    parts = [_heading(content), _input(content), _code(content), _proof(content), _files(content)]
    return "\n".join(part.strip() + "\n" for part in parts)


def _heading(content: dict[str, Any]) -> str:
    classes = content["classes"]
    shown = ", ".join(classes[:MOST_CLASSES]) + (", ..." if len(classes) > MOST_CLASSES else "")
    several = f" (the mean of {len(content['backbones'])} models)" if len(content["backbones"]) > 1 else ""
    return f"""
# An image classifier: {", ".join(content["backbones"])}{several}

{counted(len(classes), "class")}: {shown}

Written by fieldguide {content["fieldguide_version"]}. Licence of the first weights: {content["licence"]}.
"""


def _input(content: dict[str, Any]) -> str:
    made = content["preprocessing"][0]
    side, resized, kind = made["image_size_px"], made["resize_px"], made["interpolation"]
    calibrated = "yes" if content["is_calibrated"] else "no"
    if content["takes"] == "photo":
        takes = (
            "`photos`: (batch, height, width, 3), uint8, RGB, values 0 to 255. Any size; one size per batch. Resize, "
            "crop, normalisation, mirror images and temperature are inside: give the pixels as they are."
        )
    else:
        fits = {"crop": "", "pad": "Pad the photo to a square with gray (128). ", "squash": "Squeeze it to a square. "}
        takes = (
            f"`photos`: (batch, {side}, {side}, 3), uint8, RGB, values 0 to 255. **You resize**: "
            f"{fits[made.get('fit', 'crop')]}Resize the shorter side to {resized} px ({kind}, with antialias, as "
            f"Pillow does), then cut out the centre, {side} x {side}. Another resize gives other answers. "
            "Normalisation, mirror images and temperature are inside."
        )
    ranges = ", ".join(f"{low:g} to {high:g} ({kind})" for kind, (low, high) in made["value_range"].items())
    scaled = f"scale them to 0 to 255 first, from {ranges}" if ranges else "the training had none, so it expects none"
    return f"""
## Input and output

- {takes}
- `probabilities`: (batch, {len(content["classes"])}), float32. They are calibrated: {calibrated}.
- Outside of the model: decoding the file, turning it by its EXIF orientation, and laying transparency on white.
- Photos with more than 8 bits: {scaled}.
- The classes in their order are in `export.json`, and in the model's metadata (key `fieldguide`, JSON).
"""


def _code(content: dict[str, Any]) -> str:
    file = next(each["file"] for each in content["variants"] if each["name"] == content["serves"])
    side = content["preprocessing"][0]["image_size_px"]
    parts = ["## Code"]
    for language, fence, text in CODE[content["runtime"]]:
        parts.append(f"### {language}\n\n```{fence}\n{text.replace('MODEL', file).strip()}\n```")
    if "page" in content:
        how = "serve this folder (`python -m http.server`) and open it" if content["page"]["is_split"] else "open it"
        parts.append(f"`{content['page']['file']}` needs no code: {how} in a browser. It resizes by itself.")
    if content["takes"] == "resized":
        parts.append(f"In each, resize and cut out {side} x {side} px before the model, as said above.")
    parts.append(
        "Test your code with `samples/`: `expected.json` has the trained model's probabilities for each photo. "
        f"A difference above {content['tolerance']:g} means that decoding, orientation or channel order differ."
    )
    return "\n\n".join(parts)


def _proof(content: dict[str, Any]) -> str:
    rows = [_row(variant) for variant in content["variants"]]
    first = content["variants"][0]["proof"]
    accuracy, error = _share(first["comparison"], "a"), f"{first['calibration_error']:.4f}"
    photos = f"{counted(content['proof']['images'], 'photo')} ({content['proof']['part']})"
    return f"""
## Proof

{photos} through each file in its own runtime, beside the trained model
(accuracy {accuracy}, calibration error {error}):

| file | same first class | largest and mean difference | accuracy (95 %) | calibration error | speed | size |
| --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(rows)}

Size of the trained weights: {content["original_bytes"] / 1e6:.1f} MB. Speed: one photo at a time from its file, trained
model and export in turns; over 1 is faster.
{_int8(content)}"""


def _int8(content: dict[str, Any]) -> str:
    """How the int8 file was made, and what it is beside the fp32 one; empty without one."""
    exact, own = content["variants"][0], content["variants"][-1]
    if "calibrated_on" not in own:
        return ""
    found = own["proof"]["comparison"]
    lower, least, most = (100 * found[name] for name in ("difference", "difference_low", "difference_high"))
    speed, size = own["beside_fp32"]["times_as_fast"], own["bytes"] / exact["bytes"]
    return f"""
int8: ranges from {counted(own["calibrated_on"], "training photo")}, layers left in fp32: {own["layers_in_fp32"]}.
Only the trained model has {counted(found["only_a"], "photo")} right, only int8 {found["only_b"]:,}: accuracy is
{lower:.2f} points lower (95 %: {least:.2f} to {most:.2f}; p {found["p_value"]:.2g} by the paired test).
Beside fp32 it is {speed:.2f} times as fast on this machine, and has {size:.2f} of its size.
Processors with VNNI compute int8 much faster than others.
"""


def _row(variant: dict[str, Any]) -> str:
    proof = variant["proof"]
    return (
        f"| {variant['file']} ({variant['name']}) | {proof['same']:,} of {proof['images']:,} | "
        f"{proof['largest_difference']:.2g}, {proof['mean_difference']:.2g} | {_share(proof['comparison'], 'b')} | "
        f"{proof['calibration_error_exported']:.4f} | {variant['speed']['times_as_fast']:.2f} times | "
        f"{variant['bytes'] / 1e6:.1f} MB |"
    )


def _share(comparison: dict[str, Any], which: str) -> str:
    name = f"accuracy_{which}"
    return f"{comparison[name]:.4f} ({comparison[name + '_low']:.4f} to {comparison[name + '_high']:.4f})"


def _files(content: dict[str, Any]) -> str:
    lines = [f"| {name} | `{digest}` |" for each in content["variants"] for name, digest in each["sha256"].items()]
    weights = "\n".join(
        f"- {name}: `{digest}`" for name, digest in zip(content["backbones"], content["weights_sha256"], strict=True)
    )
    return f"""
## Checksums

| file | SHA-256 |
| --- | --- |
{chr(10).join(lines)}

Of the trained weights:

{weights}
"""
