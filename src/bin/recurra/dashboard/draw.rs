//! The dashboard's picture: a function of its state and of the terminal's size.

use super::state::{DashboardState, Recent};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{
    Axis, Block, Borders, Chart, Dataset, GraphType, LineGauge, Paragraph, Sparkline, Wrap,
};

const TRAINING: Color = Color::Cyan;
const VALIDATION: Color = Color::Yellow;
const QUIET: Style = Style::new().fg(Color::DarkGray);

/// Draws all of it; what has no room is left out, the least important first.
pub fn draw(frame: &mut Frame, state: &DashboardState) {
    let area = frame.area();
    let below = area.height >= 20;
    let beside = area.width >= 96 && area.height >= 14;
    let numbers = if beside || area.height < 10 { 0 } else { 2 };
    let [head, progress, losses, numbers, texts, foot] = Layout::vertical([
        Constraint::Length(u16::from(area.height >= 4)),
        Constraint::Length(u16::from(area.height >= 1)),
        Constraint::Fill(3),
        Constraint::Length(numbers),
        Constraint::Fill(u16::from(below) * 2),
        Constraint::Length(u16::from(area.height >= 3)),
    ])
    .areas(area);
    header(frame, head, state);
    gauge(frame, progress, state);
    if beside {
        let [chart, side] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Length(30)]).areas(losses);
        loss_chart(frame, chart, state);
        side_column(frame, side, state);
    } else {
        loss_chart(frame, losses, state);
        numbers_row(frame, numbers, state);
    }
    if below {
        let halves = [Constraint::Percentage(55), Constraint::Percentage(45)];
        let [sample, messages] = Layout::horizontal(halves).areas(texts);
        frame.render_widget(
            Paragraph::new(visible(&state.sample))
                .wrap(Wrap { trim: false })
                .block(framed(" last sample ")),
            sample,
        );
        let room = messages.height.saturating_sub(2) as usize;
        let from = state.messages.len().saturating_sub(room);
        let lines: Vec<Line> =
            state.messages.iter().skip(from).map(|m| Line::from(visible(m))).collect();
        frame.render_widget(Paragraph::new(lines).block(framed(" messages ")), messages);
    }
    footer(frame, foot, state);
}

fn framed(title: &str) -> Block<'_> {
    Block::new().borders(Borders::ALL).border_style(QUIET).title(title)
}

/// Text without what would move the terminal's cursor or change its colours.
fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => '\n',
            '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

fn header(frame: &mut Frame, area: Rect, state: &DashboardState) {
    let device = visible(&state.device);
    let room = (device.chars().count() as u16 + 1).min(area.width / 2);
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(room)]).areas(area);
    let title = Span::styled(visible(&state.title), Style::new().add_modifier(Modifier::BOLD));
    frame.render_widget(Line::from(title), left);
    frame.render_widget(Line::from(Span::styled(device, QUIET)).right_aligned(), right);
}

fn gauge(frame: &mut Frame, area: Rect, state: &DashboardState) {
    let mut label = format!("step {}/{}", state.step, state.steps);
    if let Some(epoch) = state.epoch() {
        label.push_str(&format!(" · epoch {epoch:.1}"));
    }
    label.push_str(&format!(" · {:.0} %", 100.0 * state.share()));
    if let Some(left) = state.seconds_left() {
        label.push_str(&format!(" · {} left", duration(left)));
    }
    let gauge = LineGauge::default()
        .ratio(state.share())
        .label(format!("{label} "))
        .filled_symbol("━")
        .filled_style(Style::new().fg(TRAINING))
        .unfilled_style(QUIET);
    frame.render_widget(gauge, area);
}

fn loss_chart(frame: &mut Frame, area: Rect, state: &DashboardState) {
    let mut title = vec![Span::raw(" loss  ")];
    if let Some(loss) = state.loss {
        title.push(Span::styled(format!("training {loss:.4}  "), Style::new().fg(TRAINING)));
    }
    if let Some(loss) = state.validation_loss {
        let text = format!("validation {loss:.4}  ");
        title.push(Span::styled(text, Style::new().fg(VALIDATION)));
    }
    if let Some((step, best)) = state.best_validation {
        title.push(Span::styled(format!("best {best:.4} at {step} "), QUIET));
    }
    let block = Block::new().borders(Borders::ALL).border_style(QUIET).title(Line::from(title));
    let (training, validation) = (state.training.points(), state.validation.points());
    let all = || training.iter().chain(validation);
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)))
    };
    let (first, last) = ends(&mut all().map(|p| p.0));
    let (low, high) = ends(&mut all().map(|p| p.1));
    if first > last {
        let waiting = Paragraph::new(Line::from(Span::styled("waiting for the first loss", QUIET)));
        frame.render_widget(waiting.block(block), area);
        return;
    }
    let margin = ((high - low) * 0.05).max(1e-3 * high.abs()).max(1e-6);
    let (low, high) = (low - margin, high + margin);
    let last = if last > first { last } else { first + 1.0 };
    let line = |points, colour, marker| {
        Dataset::default()
            .data(points)
            .marker(marker)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(colour))
    };
    let chart = Chart::new(vec![
        line(training, TRAINING, Marker::Braille),
        line(validation, VALIDATION, Marker::Braille),
    ])
    .block(block)
    .x_axis(Axis::default().bounds([first, last]).style(QUIET).labels([
        format!("{first:.0}"),
        format!("{:.0}", (first + last) / 2.0),
        format!("{last:.0}"),
    ]))
    .y_axis(Axis::default().bounds([low, high]).style(QUIET).labels([
        format!("{low:.3}"),
        format!("{:.3}", (low + high) / 2.0),
        format!("{high:.3}"),
    ]));
    frame.render_widget(chart, area);
}

/// The numbers that have a history: name, text of the last value, history.
fn numbers(state: &DashboardState) -> [(&'static str, String, &Recent); 3] {
    let text = |recent: &Recent, show: fn(f64) -> String| {
        recent.last().map_or_else(|| "–".to_string(), show)
    };
    [
        ("learning rate", text(&state.rate, |v| format!("{v:.2e}")), &state.rate),
        ("gradient norm", text(&state.gradient_norm, |v| format!("{v:.3}")), &state.gradient_norm),
        ("symbols/s", text(&state.speed, |v| format!("{v:.0}")), &state.speed),
    ]
}

/// From the smallest to the largest as 1 to 100, so that a small change shows.
fn spark(recent: &Recent, width: u16) -> Vec<u64> {
    let values: Vec<f64> = recent.latest(width as usize).collect();
    let low = values.iter().copied().fold(f64::MAX, f64::min);
    let high = values.iter().copied().fold(f64::MIN, f64::max);
    let share = |v: f64| if high > low { (v - low) / (high - low) } else { 0.5 };
    values.into_iter().map(|v| 1 + (99.0 * share(v)) as u64).collect()
}

fn side_column(frame: &mut Frame, area: Rect, state: &DashboardState) {
    let parts: [Rect; 3] = Layout::vertical([Constraint::Fill(1); 3]).areas(area);
    for ((name, value, recent), part) in numbers(state).into_iter().zip(parts) {
        let title = format!(" {name}  {value} ");
        let block = framed(&title);
        let inner = block.inner(part);
        frame.render_widget(block, part);
        let data = spark(recent, inner.width);
        let line = Sparkline::default().data(data).max(100).style(Style::new().fg(Color::Green));
        frame.render_widget(line, inner);
    }
}

fn numbers_row(frame: &mut Frame, area: Rect, state: &DashboardState) {
    let parts: [Rect; 3] = Layout::horizontal([Constraint::Fill(1); 3]).areas(area);
    for ((name, value, recent), part) in numbers(state).into_iter().zip(parts) {
        let [text, line] =
            Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(part);
        let spans = [Span::styled(format!("{name} "), QUIET), Span::raw(value)];
        frame.render_widget(Line::from(spans.to_vec()), text);
        let data = spark(recent, line.width.saturating_sub(2));
        let spark = Sparkline::default().data(data).max(100).style(Style::new().fg(Color::Green));
        frame.render_widget(spark, line);
    }
}

fn footer(frame: &mut Frame, area: Rect, state: &DashboardState) {
    let text = match state.stopping {
        true => Span::styled(
            "stopping behind this step … Ctrl-C again to leave at once",
            Style::new().fg(Color::Yellow),
        ),
        false => Span::styled("q: stop and save", QUIET),
    };
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(18)]).areas(area);
    frame.render_widget(Line::from(text), left);
    let elapsed = Span::styled(format!("{} so far", duration(state.elapsed)), QUIET);
    frame.render_widget(Line::from(elapsed).right_aligned(), right);
}

/// Seconds as people say them.
fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        3600..172_800 => format!("{} h {:02} min", s / 3600, s / 60 % 60),
        _ => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{DashboardEvent, StepReport};
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn state() -> DashboardState {
        let mut state = DashboardState::default();
        state.apply(&DashboardEvent::Started {
            title: "lstm 2x128 on text.txt".to_string(),
            device: "llvmpipe".to_string(),
            step: 0,
            steps: 3000,
            steps_per_epoch: 400,
        });
        for step in 1..=1200 {
            state.apply(&DashboardEvent::Step(StepReport {
                step,
                loss: 1.0 + 3.0 / (step as f32).sqrt(),
                rate: Some(0.004),
                gradient_norm: Some(0.5),
                symbols_per_second: Some(41_234.0),
                elapsed: step as f64 / 10.0,
            }));
        }
        state.apply(&DashboardEvent::Validation { step: 600, loss: 1.25 });
        state.apply(&DashboardEvent::Validation { step: 1200, loss: 1.5 });
        state.apply(&DashboardEvent::Sample("KING:\n\u{1b}[31mWhat".to_string()));
        state.apply(&DashboardEvent::Message("checkpoint of step 1200".to_string()));
        state
    }

    fn text(state: &DashboardState, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| row(y) + "\n").collect()
    }

    #[test]
    fn a_wide_terminal_shows_everything() {
        let shown = text(&state(), 120, 40);
        for words in [
            "lstm 2x128 on text.txt",
            "llvmpipe",
            "step 1200/3000 · epoch 3.0 · 40 % · 3 min 00 s left",
            "training 1.0866",
            "validation 1.5000",
            "best 1.2500 at 600",
            "learning rate  4.00e-3",
            "gradient norm  0.500",
            "symbols/s  41234",
            "KING:",
            "\u{fffd}[31mWhat",
            "checkpoint of step 1200",
            "q: stop and save",
            "2 min 00 s so far",
        ] {
            assert!(shown.contains(words), "{words}\n{shown}");
        }
        assert!(!shown.contains('\u{1b}'));
        let braille = shown.chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count();
        assert!(braille > 50, "{shown}");
        assert!(shown.contains('▄'), "{shown}");
    }

    #[test]
    fn a_small_terminal_keeps_the_important() {
        let shown = text(&state(), 80, 18);
        for words in ["step 1200/3000", "learning rate 4.00e-3", "symbols/s 41234", "training"] {
            assert!(shown.contains(words), "{words}\n{shown}");
        }
        assert!(!shown.contains("KING"));
        // No size is too small to draw in.
        for width in 0..24 {
            for height in 0..24 {
                text(&state(), width, height);
                text(&DashboardState::default(), width, height);
            }
        }
    }

    #[test]
    fn before_the_first_loss_and_while_it_stops() {
        let mut state = DashboardState::default();
        assert!(text(&state, 80, 24).contains("waiting for the first loss"));
        state.stopping = true;
        assert!(text(&state, 80, 24).contains("stopping behind this step"));
        // One point, and a loss that is no number, are no reason to fail.
        state.apply(&DashboardEvent::Step(StepReport {
            step: 1,
            loss: f32::NAN,
            rate: Some(f32::INFINITY),
            ..StepReport::default()
        }));
        assert!(text(&state, 80, 24).contains("training NaN"));
        state.apply(&DashboardEvent::Validation { step: 1, loss: 2.0 });
        assert!(text(&state, 80, 24).contains("2.000"));
    }

    #[test]
    fn times_are_said_as_people_do() {
        let all = [0.2, 59.6, 3599.0, 7500.0, 260_000.0].map(duration);
        assert_eq!(all, ["0 s", "1 min 00 s", "59 min 59 s", "2 h 05 min", "3 days"]);
    }
}
