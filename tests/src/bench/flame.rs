//! Samples of call stacks, counted and drawn as a flame graph.

use std::collections::BTreeMap;
use std::fmt::Write;

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 17.0;
/// Narrower boxes are left out: nobody can see them.
const NARROWEST: f64 = 0.4;
const LETTER: f64 = 6.6;

/// A function with the samples below it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Samples in it or in what it called.
    pub total: u64,
    /// Samples in itself.
    pub own: u64,
    children: BTreeMap<String, Node>,
}

impl Node {
    /// From what `perf script -F ip,sym` prints: a stack for each sample, innermost first, an empty line between two.
    pub fn from_perf(text: &str) -> Node {
        let mut root = Node::default();
        for sample in text.split("\n\n") {
            let stack: Vec<String> = sample.lines().filter_map(function).collect();
            if !stack.is_empty() {
                root.add(stack.iter().rev());
            }
        }
        root
    }

    fn add<'a>(&mut self, mut stack: impl Iterator<Item = &'a String>) {
        self.total += 1;
        match stack.next() {
            Some(name) => self.children.entry(name.clone()).or_default().add(stack),
            None => self.own += 1,
        }
    }

    /// The functions with the most samples of their own, as name and part of all.
    pub fn top(&self, count: usize) -> Vec<(String, f64)> {
        let mut owners = BTreeMap::new();
        self.count_own("", &mut owners);
        let mut sorted: Vec<(String, u64)> = owners.into_iter().collect();
        sorted.sort_by_key(|(_, own)| std::cmp::Reverse(*own));
        let all = self.total.max(1) as f64;
        let parts = sorted.into_iter().take(count);
        parts.map(|(name, own)| (name, own as f64 / all)).collect()
    }

    fn count_own(&self, name: &str, owners: &mut BTreeMap<String, u64>) {
        if self.own > 0 {
            *owners.entry(name.to_owned()).or_default() += self.own;
        }
        for (name, child) in &self.children {
            child.count_own(name, owners);
        }
    }

    fn depth(&self) -> usize {
        self.children
            .values()
            .map(|child| 1 + child.depth())
            .max()
            .unwrap_or(0)
    }

    /// As a picture, callers below, with names and parts shown where the mouse is.
    pub fn to_svg(&self, title: &str) -> String {
        let height = HEIGHT * (self.depth() + 2) as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"monospace\" font-size=\"11\">\n<text x=\"4\" y=\"12\">{}</text>\n",
            escape(title)
        );
        let scale = WIDTH / self.total.max(1) as f64;
        self.draw_children(&mut svg, 0.0, height, scale, self.total);
        svg + "</svg>\n"
    }

    fn draw_children(&self, svg: &mut String, mut x: f64, bottom: f64, scale: f64, all: u64) {
        for (name, child) in &self.children {
            let width = child.total as f64 * scale;
            if width >= NARROWEST {
                draw(
                    svg,
                    name,
                    x,
                    bottom - HEIGHT,
                    width,
                    child.total as f64 / all.max(1) as f64,
                );
                child.draw_children(svg, x, bottom - HEIGHT, scale, all);
            }
            x += width;
        }
    }
}

fn draw(svg: &mut String, name: &str, x: f64, y: f64, width: f64, part: f64) {
    let letters = ((width - 4.0) / LETTER).max(0.0) as usize;
    let shown: String = match name.chars().count() > letters {
        true => name.chars().take(letters.saturating_sub(1)).collect(),
        false => name.to_owned(),
    };
    // A colour that stays with the name from one picture to the next.
    let hue = name
        .bytes()
        .fold(0u32, |sum, octet| sum.wrapping_mul(31).wrapping_add(octet.into()))
        % 50;
    let _ = writeln!(
        svg,
        "<g><title>{} {:.2} %</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" \
         fill=\"hsl({hue},80%,65%)\" stroke=\"white\" stroke-width=\"0.5\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
        escape(name),
        100.0 * part,
        HEIGHT - 1.0,
        x + 2.0,
        y + 12.0,
        escape(&shown)
    );
}

/// The function of a line: an address, then the name.
fn function(line: &str) -> Option<String> {
    let (address, name) = line.trim().split_once(' ')?;
    u64::from_str_radix(address, 16).ok()?;
    Some(name.trim().to_owned())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERF: &str = "
            55d0a0 copy
            55d000 forward
            55c000 main

            55d0a4 copy
            55d000 forward
            55c000 main

            55c010 main
";

    #[test]
    fn samples_are_counted_by_stack() {
        let root = Node::from_perf(PERF);
        assert_eq!((root.total, root.own, root.depth()), (3, 0, 3));
        let main = &root.children["main"];
        assert_eq!((main.total, main.own), (3, 1));
        assert_eq!(root.top(1), vec![("copy".to_owned(), 2.0 / 3.0)]);
    }

    #[test]
    fn the_picture_has_a_box_for_each_function() {
        let svg = Node::from_perf(&PERF.replace("copy", "copy<u8>")).to_svg("a & b");
        assert_eq!(svg.matches("<rect").count(), 3);
        assert!(svg.contains("copy&lt;u8&gt; 66.67 %") && svg.contains("a &amp; b"));
    }

    #[test]
    fn nothing_sampled_is_an_empty_picture() {
        let root = Node::from_perf("");
        assert_eq!(root, Node::default());
        assert!(root.to_svg("").ends_with("</svg>\n") && root.top(10).is_empty());
    }
}
