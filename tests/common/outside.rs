//! Programs of others that look at what is made: a browser, TensorBoard's reader.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Chromium, or none, and then says so.
pub fn chromium() -> Option<PathBuf> {
    let names = std::env::var_os("RECURRA_BROWSER").map_or_else(
        || ["chromium", "chromium-browser", "google-chrome"].map(PathBuf::from).to_vec(),
        |name| vec![name.into()],
    );
    let runs = |name: &PathBuf| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    let found = names.into_iter().find(runs);
    if found.is_none() {
        let required = std::env::var_os("RECURRA_REQUIRE_BROWSER").is_some_and(|v| v == "1");
        assert!(!required, "RECURRA_REQUIRE_BROWSER is set, and there is no chromium");
        eprintln!("SKIPPED: there is no chromium; what a browser makes of it is not tested");
    }
    found
}

/// Opens a page with a profile of its own; what it printed, and what it complained of.
pub fn browse(browser: &Path, folder: &Path, page: &Path, arguments: &[&str]) -> (String, String) {
    let output = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .args(["--enable-logging=stderr", "--no-first-run", "--disable-background-networking"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{stderr}");
    (stdout, stderr)
}

/// Opens a page that computes on a GPU, or what the browser has in its place, with a profile of its own: what it said
/// (lines on the console that begin with `SAYS`), up to one that begins with `END`.
pub fn hear(browser: &Path, folder: &Path, page: &Path, patience: Duration) -> Vec<String> {
    let mut running = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--no-first-run", "--enable-logging=stderr"])
        .args(["--disable-background-networking", "--disable-component-update"])
        .args(["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("file://{}", page.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(running.stderr.take().unwrap());
    let (send, lines) = channel();
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|l| send.send(l)));
    let until = Instant::now() + patience;
    let (mut said, mut all) = (Vec::new(), Vec::new());
    while let Ok(line) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
        // "SAYS words", source: file (line)
        let words = line.split_once("\"SAYS ").map(|(_, words)| words);
        if let Some((words, _)) = words.and_then(|words| words.rsplit_once("\", source:")) {
            said.push(words.to_string());
        }
        if said.last().is_some_and(|words| words.starts_with("END")) {
            break;
        }
        all.push(line);
    }
    let _ = running.kill();
    let _ = running.wait();
    let heard = said.last().is_some_and(|words| words.starts_with("END"));
    assert!(heard, "the page did not come to its end:\n{}", all.join("\n"));
    said
}

/// Prints what TensorBoard's reader finds in a folder, as JSON.
const READER: &str = r#"
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing import event_file_loader
from tensorboard.backend.event_processing.io_wrapper import IsTensorFlowEventsFile
import glob
runs = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "histograms": 0, "images": 0, "tensors": 0})
runs.Reload()
out = {"tags": {k: v for k, v in runs.Tags().items() if isinstance(v, list)}}
out["scalars"] = {t: [(e.step, e.value if e.value == e.value else None) for e in runs.Scalars(t)] for t in runs.Tags()["scalars"]}
out["texts"] = {t: [(e.step, e.tensor_proto.string_val[0].decode(),
                     runs.SummaryMetadata(t).plugin_data.plugin_name) for e in runs.Tensors(t)]
                for t in runs.Tags()["tensors"]}
out["histograms"] = {t: [(e.step, e.histogram_value.num, e.histogram_value.min, e.histogram_value.max,
                          sum(e.histogram_value.bucket), len(e.histogram_value.bucket_limit))
                         for e in runs.Histograms(t)] for t in runs.Tags()["histograms"]}
out["images"] = {t: [(e.step, e.width, e.height, len(e.encoded_image_string)) for e in runs.Images(t)]
                 for t in runs.Tags()["images"]}
# The reader that the web page's data comes from, which turns values into its own form.
files = [f for f in sorted(glob.glob(sys.argv[1] + "/*")) if IsTensorFlowEventsFile(f)]
events = [e for f in files for e in event_file_loader.EventFileLoader(f).Load()]
out["files"], out["events"], out["version"] = len(files), len(events), events[0].file_version
out["plugins"] = sorted({v.metadata.plugin_data.plugin_name for e in events for v in e.summary.value})
print(json.dumps(out))
"#;

/// A Python with the package tensorboard, or none, and then says so.
pub fn python() -> Option<PathBuf> {
    let python = std::env::var_os("RECURRA_PYTHON").unwrap_or_else(|| "python3".into());
    let import = "import tensorboard.backend.event_processing.event_accumulator";
    let found = Command::new(&python).args(["-c", import]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(python.into());
    }
    eprintln!(
        "SKIPPED: {} has no package 'tensorboard', so that its reader could not be asked; \
         set RECURRA_PYTHON to one that has it",
        python.display()
    );
    None
}

pub fn read_by_tensorboard(python: &Path, folder: &Path) -> serde_json::Value {
    let output = Command::new(python).args(["-c", READER]).arg(folder).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    // It goes on behind a record whose checksum is wrong, but says so.
    for word in ["corrupt", "crc", "checksum", "truncated"] {
        assert!(!complaints.to_lowercase().contains(word), "{complaints}");
    }
    serde_json::from_slice(&output.stdout).unwrap()
}
