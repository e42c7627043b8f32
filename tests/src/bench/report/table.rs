//! The page for people.

use std::fmt::Write;

use super::super::command_line::Options;
use super::super::host_facts::HostFacts;
use super::super::peers::Kind;
use super::super::results::{Comparison, Results};
use super::super::share::ENOUGH;
use super::super::statistics::Summary;
use super::super::works::Goal;

/// The whole page.
pub fn page(facts: &HostFacts, options: &Options, results: &[Results]) -> String {
    let mut page = String::from(
        "# netkitd beside others\n\nWritten by `make bench`; the rounds are in `latest.json`.\n\n",
    );
    page += &facts.to_markdown();
    page += &method(options);
    page += "\n| work | peer | ours | theirs | ratio (of rounds) | goal | result | spread, ours and theirs | discarded |\n";
    page += "| --- | --- | ---: | ---: | ---: | ---: | --- | --- | --- |\n";
    for result in results {
        for comparison in result.comparisons() {
            page += &line(result, &comparison);
        }
    }
    page += &what_was_not_run(results);
    page
}

fn method(options: &Options) -> String {
    format!(
        "Everybody has one core for forwarding, the generator the other. {} rounds in turns, each {} s after {} s of warm-up; \
         idle back ends are stopped (SIGSTOP) meanwhile. A round in which a forwarding thread or a polling generator had \
         less than {:.0} % of its core is discarded. Figures are medians; a ratio above 1 says that netkitd is better, and \
         in brackets is the median of the ratios of single rounds. Spread: interquartile range, smallest to largest.\n",
        options.rounds,
        options.timing.seconds,
        options.timing.warm_up,
        100.0 * ENOUGH,
    )
}

fn line(result: &Results, it: &Comparison) -> String {
    let show = |summary: Option<Summary>| {
        summary.map_or_else(|| "-".to_owned(), |summary| it.figure.show(summary.median))
    };
    let verdict = match it.met {
        Some(true) => "met",
        Some(false) => "**missed**",
        None => "no figures",
    };
    let (ours, theirs) = (result.lost(it.ours), result.lost(it.theirs));
    format!(
        "| {}{} | {} | {} | {} | {} | {} | {} | {}; {} | {}; {} |\n",
        result.work.title,
        it.figure.suffix(),
        it.theirs.title(),
        show(it.our_summary),
        show(it.their_summary),
        ratio(it),
        goal(it),
        verdict,
        spread(it, it.our_summary),
        spread(it, it.their_summary),
        lost(ours),
        lost(theirs),
    )
}

fn ratio(it: &Comparison) -> String {
    let Some(ratio) = it.ratio else {
        return "-".to_owned();
    };
    match ratio.of_rounds {
        Some(of_rounds) => format!("{:.2} ({of_rounds:.2})", ratio.of_medians),
        None => format!("{:.2}", ratio.of_medians),
    }
}

fn goal(it: &Comparison) -> String {
    match it.goal {
        Goal::Ratio(ratio) => format!("at least {ratio:.2}"),
        Goal::AtMost(most) => format!("at most {}", it.figure.show(most)),
    }
}

fn spread(it: &Comparison, summary: Option<Summary>) -> String {
    let Some(summary) = summary else {
        return "-".to_owned();
    };
    format!(
        "{:.1} %, {} to {} ({})",
        100.0 * summary.relative_spread(),
        it.figure.show(summary.min),
        it.figure.show(summary.max),
        summary.rounds
    )
}

fn lost((discarded, failed): (usize, usize)) -> String {
    match failed {
        0 => discarded.to_string(),
        failed => format!("{discarded}, {failed} failed"),
    }
}

/// Who has no figures in a work, and why.
pub fn not_run(result: &Results) -> Vec<(Kind, String)> {
    let all = std::iter::once(result.work.ours).chain(result.work.theirs.iter().copied());
    all.filter_map(|kind| Some((kind, result.why_not(kind)?)))
        .collect()
}

fn what_was_not_run(results: &[Results]) -> String {
    let mut text = String::new();
    let mut count = 0;
    for result in results {
        for (kind, why) in not_run(result) {
            count += 1;
            let _ = writeln!(text, "- {}, {}: {why}", result.work.title, kind.title());
        }
    }
    match count {
        0 => "\nEverything was run.\n".to_owned(),
        count => format!("\n{count} not run:\n\n{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::results::tests::results;
    use super::*;

    #[test]
    fn a_line_has_the_medians_the_ratio_and_the_spread() {
        let result = results(&[2e6, 4e6, -1e6], &[1e6, 2e6, 1e6]);
        let line = line(&result, &result.comparisons()[0]);
        assert_eq!(
            line,
            "| both ways, 64 B, split ring | DPDK vhost, io | 3.000 Mframes/s | 1.000 Mframes/s | 3.00 (2.00) \
             | at least 1.30 | met | 33.3 %, 2.000 Mframes/s to 4.000 Mframes/s (2); \
             50.0 %, 1.000 Mframes/s to 2.000 Mframes/s (3) | 1; 0 |\n"
        );
    }

    #[test]
    fn a_goal_that_is_missed_stands_out() {
        let result = results(&[1e6], &[2e6]);
        assert!(
            line(&result, &result.comparisons()[0]).contains("| 0.50 (0.50) | at least 1.30 | **missed** |")
        );
    }

    #[test]
    fn what_was_not_run_is_listed_and_counted() {
        let result = results(&[1e6], &[2e6]);
        let text = what_was_not_run(std::slice::from_ref(&result));
        assert!(text.starts_with("\n1 not run:"), "{text}");
        assert!(text.contains("OVS-DPDK: it is not installed"), "{text}");
        let line = line(&result, &result.comparisons()[1]);
        assert!(line.contains("| - | - | at least 1.30 | no figures |"), "{line}");
    }
}
