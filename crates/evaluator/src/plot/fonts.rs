//! The font of the plots, and how wide its text is.

use std::sync::OnceLock;

use plotters::style::{FontDesc, FontFamily, FontStyle, register_font};

use crate::EvaluatorError;

/// The name under which the font is known to the bitmap backend, and which an SVG asks of its viewer:
/// Verdana has the widths of DejaVu Sans.
pub(super) const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

/// Makes the font known, once.
pub(super) fn load() -> Result<(), EvaluatorError> {
    static LOADED: OnceLock<bool> = OnceLock::new();
    let loaded = *LOADED.get_or_init(|| {
        register_font(FAMILY, FontStyle::Normal, dejavu::sans::regular()).is_ok()
            && register_font(FAMILY, FontStyle::Bold, dejavu::sans::bold()).is_ok()
    });
    if loaded {
        Ok(())
    } else {
        Err(EvaluatorError::Plot(
            "the font of the plots cannot be read".to_owned(),
        ))
    }
}

/// The style of a weight.
pub(super) fn style(bold: bool) -> FontStyle {
    if bold {
        FontStyle::Bold
    } else {
        FontStyle::Normal
    }
}

/// Height of the line (ascent less descent) in em: what the bitmap backend calls the size of a font.
pub(super) const LINE_PER_EM: f64 = 1.164;

/// The width of a text set at an em of 1.
pub(super) fn width_in_em(text: &str, bold: bool) -> f64 {
    // Widths are whole pixels: measured large, they are exact enough.
    const SIZE: f64 = 1000.0;
    // The font is looked up when its description is made: it must be loaded by then.
    let measured = load().ok().and_then(|()| {
        FontDesc::new(FontFamily::Name(FAMILY), SIZE, style(bold))
            .box_size(text)
            .ok()
    });
    match measured {
        Some((width, _)) => f64::from(width) * LINE_PER_EM / SIZE,
        // Six tenths of an em are a character of about average width.
        None => 0.6 * text.chars().count() as f64,
    }
}

/// The text, cut where it would be wider than `width` at this em.
pub(super) fn shortened(text: &str, em: f64, bold: bool, width: f64) -> String {
    let fits = |text: &str| em * width_in_em(text, bold) <= width;
    if fits(text) {
        return text.to_owned();
    }
    let mut kept: Vec<char> = text.chars().collect();
    loop {
        kept.pop();
        let short = format!("{}…", kept.iter().collect::<String>().trim_end());
        if kept.len() <= 1 || fits(&short) {
            return short;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_font() {
        // In DejaVu Sans a digit is 1303 of 2048 units wide.
        let digits = width_in_em("0123456789", false);
        assert!((digits - 10.0 * 1303.0 / 2048.0).abs() < 0.05, "{digits}");
        assert_eq!(shortened("0123456789", 10.0, false, 100.0), "0123456789");
        assert_eq!(shortened("0123456789", 10.0, false, 36.0), "0123…");
        assert!(width_in_em("wide text", true) > width_in_em("wide text", false));
    }
}
