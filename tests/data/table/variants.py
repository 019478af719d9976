"""One table of labels in the ways that people have it."""

import json

LABELS = {
    "p000.jpg": "fox",
    "p001.jpg": "Bär",
    "p002.jpg": "007",
    "p003.jpg": "NA",
    "p004.jpg": "True",
    "p005.jpg": "fox",
}
ROWS = list(LABELS.items())


def lines(pattern, heading="", end="\n"):
    """A text with one line per row; `{n}` is the name without ending, `{i}` a number."""
    made = [pattern.format(f=file, n=file[:-4], c=label, i=place) for place, (file, label) in enumerate(ROWS)]
    return end.join([heading, *made] if heading else made) + end


TEXTS = {  # name of the file, its bytes
    "commas": ("a.csv", lines("{f},{c}", "file,label").encode()),
    "semicolons of a German Excel, Latin-1": ("a.csv", lines("{f};{c}", "Image;Class", "\r\n").encode("cp1252")),
    "tabs": ("a.tsv", lines("{f}\t{c}", "filename\tspecies").encode()),
    "UTF-8 with a mark": ("a.csv", lines("{f},{c}", "path,category").encode("utf-8-sig")),
    "UTF-16": ("a.csv", lines("{f}\t{c}", "file_name\tlabel", "\r\n").encode("utf-16")),
    "UTF-16 without a mark": ("a.csv", lines("{f},{c}", "image,label").encode("utf-16-le")),
    "quotes and spaces": ("a.csv", lines(' "{f}" , "{c}" ', "image , label").encode()),
    "backslashes and the old place": ("a.csv", lines(r"C:\Users\anna\photos\{f},{c}", "file,label").encode()),
    "absolute paths of another machine": ("a.csv", lines("/mnt/nas/photos/{f},{c}", "file,label").encode()),
    "names without ending": ("a.csv", lines("{n},{c}", "id,label").encode()),
    "no heading": ("a.csv", lines("{f},{c}").encode()),
    "an index first": ("a.csv", lines("{i},{f},{c}", ",image,label").encode()),
    "an index first and no heading": ("a.csv", lines("{i},{f},{c}").encode()),
    "an unknown heading": ("a.csv", lines("{f};{c}", "Datei;Art").encode()),
    "path and label of ImageNet": ("a.txt", lines("{f} {c}").encode()),
    "Excel's first line": ("a.csv", b"sep=;\r\n" + lines("{f};{c}", "file;label", "\r\n").encode()),
    "folders before the name": ("a.csv", lines("train/x/{f},{c}", "file,label").encode()),
    "upper case": ("a.csv", lines("{f},{c}", "FILE,LABEL").replace(".jpg", ".JPG").encode()),
    "empty lines": ("a.csv", ("\n" + lines("{f},{c}", "file,label") + "\n,\n").encode()),
    "a list of objects": ("a.json", json.dumps([{"file": f, "label": c} for f, c in ROWS]).encode()),
    "JSON lines": ("a.jsonl", "".join(json.dumps({"image": f, "class": c}) + "\n" for f, c in ROWS).encode()),
    "COCO Camera Traps": (
        "a.json",
        json.dumps(
            {
                "images": [{"id": f"i{n}", "file_name": f, "location": "x"} for n, (f, _) in enumerate(ROWS)],
                "annotations": [{"id": n, "image_id": f"i{n}", "category_id": c} for n, (_, c) in enumerate(ROWS)],
                "categories": [{"id": c, "name": c} for c in sorted(set(LABELS.values()))],
            }
        ).encode(),
    ),
    "a run's split.csv": (
        "split.csv",
        lines("{f},{c},train,abc,,", "file,class,part,content_hash,reason,group").encode(),
    ),
}


def parquet(path):
    """The same as Parquet."""
    import polars

    polars.DataFrame({"file": [file for file, _ in ROWS], "label": [label for _, label in ROWS]}).write_parquet(path)
