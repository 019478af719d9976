#!/bin/sh
# The main job, end to end, on scikit-learn's handwritten digits: real scans that come with the library.
set -eu
photos=runs/demo/photos
labels=runs/demo/photos-test-labels.csv
run=runs/demo/run

if [ -e runs/demo ]; then
    number=1
    while [ -e "runs/demo.old-$number" ]; do number=$((number + 1)); done
    mv runs/demo "runs/demo.old-$number"
    echo "The demo before this one is now runs/demo.old-$number"
fi
mkdir -p runs/demo

show() {
    printf '\n$ %s\n' "$*"
    "$@"
}

show python examples/write_digits.py "$photos"
show fieldguide check "$photos" || test $? -eq 1  # 1: findings that a person should look at
show fieldguide train "$photos" -o "$run" --recipe digits
show fieldguide evaluate "$run" "$photos" --labels "$labels" --json runs/demo/test.json
show fieldguide predict "$run" "$photos/test" -o runs/demo/prediction.csv

printf '\nrun          %s\nreport       %s\ncurves       %s\npredictions  %s\n' \
    "$run" "$run/report.html" "$run/figures/curves.png" runs/demo/prediction.csv
python - <<'END'
import json
figures = json.load(open("runs/demo/test.json"))
print(f"test accuracy {figures['accuracy']:.4f} "
      f"(95 %: {figures['accuracy_low']:.4f} to {figures['accuracy_high']:.4f}, n = {figures['images']})")
END
