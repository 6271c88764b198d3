//! Tunes in MIDI files.

use super::model::check_notes;
use super::{LOWEST, NOTES};
use crate::error::{Error, Result};
use crate::format::write_atomic;
use midly::num::{u4, u7, u15, u24, u28};
use midly::{
    Format, Header, MetaMessage, MidiMessage, Smf, Timing, Track, TrackEvent, TrackEventKind,
};
use std::collections::BTreeMap;
use std::path::Path;

/// The channel of drums in General MIDI, from 0: its numbers are no notes.
const DRUMS: u8 = 9;
/// Ticks of a quarter note in files that are written.
const TICKS: u16 = 480;
/// Microseconds of a quarter note in files that are written: 100 of them a minute.
const TEMPO: u32 = 600_000;
/// How hard keys are struck.
const VELOCITY: u8 = 80;
/// A tune's steps, at most: a file of a few bytes can claim any length.
const MOST_STEPS: u64 = 1 << 20;

/// Reads a MIDI file as a tune: of each step the keys that sound, from 0 for the lowest. A step is `quarters` quarter
/// notes long; a note's beginning and end are moved to the nearest step, and it sounds for a step at least. All
/// tracks count but for drums, and the tune begins with its first note.
///
/// # Errors
/// The file can't be read or is no MIDI file; it counts seconds instead of quarter notes; a note that no piano has,
/// with its place; a step that is no positive number.
pub fn read_midi(path: &Path, quarters: f32) -> Result<Vec<Vec<u32>>> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
    of_bytes(&bytes, quarters).map_err(|e| Error::format(path, e.to_string()))
}

fn of_bytes(bytes: &[u8], quarters: f32) -> Result<Vec<Vec<u32>>> {
    if !(quarters > 0.0 && quarters.is_finite()) {
        let what = format!("a step must be a positive number of quarter notes, not {quarters}");
        return Err(Error::invalid(what));
    }
    let file = Smf::parse(bytes).map_err(|e| Error::invalid(format!("no MIDI file: {e}")))?;
    let Timing::Metrical(ticks) = file.header.timing else {
        return Err(Error::invalid("its time is counted in seconds, not in quarter notes"));
    };
    let step = f64::from(quarters) * f64::from(ticks.as_int().max(1));
    let nearest = |tick: u64| (tick as f64 / step).round() as u64;
    // (key, first step, one past the last)
    let mut notes: Vec<(u32, u64, u64)> = Vec::new();
    for (number, track) in file.tracks.iter().enumerate() {
        let (mut now, mut down) = (0u64, BTreeMap::<(u8, u8), u64>::new());
        let mut end = |key: u8, from: u64, to: u64| {
            let first = nearest(from);
            notes.push((u32::from(key) - LOWEST, first, nearest(to).max(first.saturating_add(1))));
        };
        for event in track {
            now += u64::from(event.delta.as_int());
            let TrackEventKind::Midi { channel, message } = event.kind else { continue };
            let channel = channel.as_int();
            let (key, strikes) = match message {
                MidiMessage::NoteOn { key, vel } => (key.as_int(), vel.as_int() > 0),
                MidiMessage::NoteOff { key, .. } => (key.as_int(), false),
                _ => continue,
            };
            if channel == DRUMS {
                continue;
            }
            let highest = LOWEST + NOTES as u32 - 1;
            if !(LOWEST..=highest).contains(&u32::from(key)) {
                return Err(Error::invalid(format!(
                    "track {}, tick {now}: note {key} is not between {LOWEST} and {highest}",
                    number + 1
                )));
            }
            if let Some(from) = down.remove(&(channel, key)) {
                end(key, from, now);
            }
            if strikes {
                down.insert((channel, key), now);
            }
        }
        down.into_iter().for_each(|((_, key), from)| end(key, from, now));
    }
    let first = notes.iter().map(|note| note.1).min().unwrap_or(0);
    let steps = notes.iter().map(|note| note.2).max().unwrap_or(first) - first;
    if steps > MOST_STEPS {
        return Err(Error::invalid(format!("{steps} steps are more than {MOST_STEPS}")));
    }
    // Which keys begin and end at each step: of many tracks a key may sound more than once.
    let mut changes: Vec<(u64, u32, i32)> = Vec::new();
    for (key, from, to) in notes {
        changes.extend([(from - first, key, 1), (to - first, key, -1)]);
    }
    changes.sort_unstable();
    let (mut sounding, mut changes) = ([0i32; NOTES], changes.into_iter().peekable());
    let mut tune = Vec::new();
    for step in 0..steps {
        while let Some((_, key, change)) = changes.next_if(|change| change.0 <= step) {
            sounding[key as usize] += change;
        }
        let keys = (0..NOTES as u32).filter(|&key| sounding[key as usize] > 0);
        tune.push(keys.collect::<Vec<u32>>());
    }
    Ok(tune)
}

/// Writes a tune as a MIDI file of one track. A key that sounds in steps one behind the other is held.
///
/// # Errors
/// A key beyond 87; a step that is no positive number of quarter notes; the file can't be written.
pub fn write_midi(path: &Path, tune: &[Vec<u32>], quarters: f32) -> Result<()> {
    let mut bytes = Vec::new();
    let file = Smf {
        header: Header::new(Format::SingleTrack, Timing::Metrical(u15::new(TICKS))),
        tracks: vec![track(tune, quarters)?],
    };
    let bad = |e: std::io::Error| Error::io(path, "write", e);
    file.write_std(&mut bytes).map_err(bad)?;
    write_atomic(path, &bytes)
}

fn track(tune: &[Vec<u32>], quarters: f32) -> Result<Track<'static>> {
    check_notes(std::slice::from_ref(&tune.to_vec()))?;
    let step = (f64::from(quarters) * f64::from(TICKS)).round();
    if !(1.0..1e6).contains(&step) {
        return Err(Error::invalid(format!("a step of {quarters} quarter notes can't be written")));
    }
    let mut track: Track = vec![TrackEvent {
        delta: u28::new(0),
        kind: TrackEventKind::Meta(MetaMessage::Tempo(u24::new(TEMPO))),
    }];
    let silence = Vec::new();
    let (mut before, mut last) = (&silence, 0);
    for (number, notes) in tune.iter().chain([&silence]).enumerate() {
        let now = number as u64 * step as u64;
        let ends = before.iter().filter(|key| !notes.contains(key)).map(|&key| (key, 0));
        let begins = notes.iter().filter(|key| !before.contains(key)).map(|&key| (key, VELOCITY));
        for (key, velocity) in ends.chain(begins) {
            let (key, vel) = (u7::new((key + LOWEST) as u8), u7::new(velocity));
            let message = MidiMessage::NoteOn { key, vel };
            let kind = TrackEventKind::Midi { channel: u4::new(0), message };
            // A silence beyond 28 bits of ticks would take days.
            let delta = u28::new((now - last).min(u64::from(u28::max_value().as_int())) as u32);
            track.push(TrackEvent { delta, kind });
            last = now;
        }
        before = notes;
    }
    let kind = TrackEventKind::Meta(MetaMessage::EndOfTrack);
    track.push(TrackEvent { delta: u28::new(0), kind });
    Ok(track)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(tune: &[Vec<u32>], quarters: f32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let header = Header::new(Format::SingleTrack, Timing::Metrical(u15::new(TICKS)));
        let file = Smf { header, tracks: vec![track(tune, quarters).unwrap()] };
        file.write_std(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let tune = vec![vec![3, 40], vec![40], vec![], vec![0, 40, 87], vec![0]];
        for quarters in [0.25, 1.0, 2.0] {
            assert_eq!(of_bytes(&written(&tune, quarters), quarters).unwrap(), tune);
        }
        // At half the speed each step is two.
        let twice: Vec<_> = tune.iter().flat_map(|step| [step.clone(), step.clone()]).collect();
        assert_eq!(of_bytes(&written(&tune, 1.0), 0.5).unwrap(), twice);
        assert!(track(&[vec![88]], 1.0).is_err() && track(&tune, 0.0).is_err());
    }

    /// A file by hand: a header of format 1, 96 ticks a quarter note, tracks of events (delta under 128).
    fn by_hand(tracks: &[&[u8]]) -> Vec<u8> {
        let mut bytes = b"MThd\0\0\0\x06\0\x01\0".to_vec();
        bytes.extend([tracks.len() as u8, 0, 96]);
        for track in tracks {
            bytes.extend(b"MTrk");
            bytes.extend((track.len() as u32 + 4).to_be_bytes());
            bytes.extend_from_slice(track);
            bytes.extend([0, 0xff, 0x2f, 0]);
        }
        bytes
    }

    #[test]
    fn notes_go_to_the_nearest_step() {
        // Silence of 96 ticks; C4 from a little late to a little early of the next step; E4 too short for a step,
        // as a note on of velocity 0; drums; a second track with G4 that never ends but with the track.
        let first =
            [96, 0x90, 60, 64, 10, 0x90, 64, 64, 5, 0x90, 64, 0, 70, 0x80, 60, 0, 0, 0x99, 35, 64];
        let second = [100, 0x91, 67, 1, 127, 0xb1, 7, 1, 65, 0xb1, 7, 1];
        let tune = of_bytes(&by_hand(&[&first, &second]), 1.0).unwrap();
        assert_eq!(tune, [vec![39, 43, 46], vec![46]]);
        // Struck again while it is down: one note behind the other.
        let again = [0, 0x90, 60, 64, 96, 0x90, 60, 64, 96, 0x80, 60, 0];
        assert_eq!(of_bytes(&by_hand(&[&again]), 1.0).unwrap(), [[39], [39]]);
        assert_eq!(of_bytes(&by_hand(&[&[]]), 1.0).unwrap(), Vec::<Vec<u32>>::new());
        // One key of two channels sounds until the later one ends.
        let both = [0, 0x90, 60, 64, 0, 0x91, 60, 64, 96, 0x80, 60, 0, 96, 0x81, 60, 0];
        assert_eq!(of_bytes(&by_hand(&[&both]), 1.0).unwrap(), [[39], [39]]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let says = |bytes: &[u8], quarters: f32, words: &str| {
            let error = of_bytes(bytes, quarters).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        says(b"MThd", 1.0, "no MIDI file");
        says(b"", 1.0, "no MIDI file");
        let low = by_hand(&[&[5, 0x90, 20, 64]]);
        says(&low, 1.0, "track 1, tick 5: note 20 is not between 21 and 108");
        says(&low, f32::NAN, "positive number");
        let mut seconds = by_hand(&[&[]]);
        seconds[12] = 0xe7;
        says(&seconds, 1.0, "counted in seconds");
    }
}
