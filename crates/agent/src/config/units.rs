//! Sizes and durations as people write them. Pure.

use std::time::Duration;

/// A hundred years: what is longer cannot be added to every clock.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A duration: a number of seconds, or a number with `us`, `ms`, `s`, `min`, `h` or `d`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "us" => 0.000_001,
        "ms" => 0.001,
        "" | "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * factor).ok().filter(|span| *span <= LONGEST)
}

/// A size in bytes: a number of bytes, or a number with `B`, `kB`, `MB`, `GB` or `TB`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let size = number * memory_factor(if unit.is_empty() { "B" } else { unit })?;
    // 2^53: beyond it a float no longer counts bytes exactly; no disk is that large.
    (0.0..9_007_199_254_740_992.0).contains(&size).then_some(size as u64)
}

/// Bytes per unit of memory, in PostgreSQL's spelling; `KB` is taken too.
pub(super) fn memory_factor(unit: &str) -> Option<f64> {
    Some(match unit {
        "B" => 1.0,
        "kB" | "KB" => 1024.0,
        "MB" => 1024.0 * 1024.0,
        "GB" => 1024.0 * 1024.0 * 1024.0,
        "TB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    })
}

/// Splits `1.5 GB` into 1.5 and `GB`; `1e3` is a number.
pub(super) fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let digit = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    let exponent = |at: usize| {
        digit(at + 1) || (matches!(text.as_bytes().get(at + 1), Some(b'+' | b'-')) && digit(at + 2))
    };
    let unit = |(at, c): &(usize, char)| {
        c.is_ascii_alphabetic() && !(matches!(c, 'e' | 'E') && *at > 0 && exponent(*at))
    };
    let end = text.char_indices().find(unit).map_or(text.len(), |(at, _)| at);
    let number: f64 = text[..end].trim().parse().ok()?;
    number.is_finite().then_some((number, text[end..].trim()))
}

/// A duration as it would be written in a configuration: `5s`, `500ms`.
pub(super) fn written(span: Duration) -> String {
    show(span).replace(' ', "")
}

/// A duration as people read it: `5 s`, `500 ms`.
pub(super) fn show(span: Duration) -> String {
    if span.subsec_millis() == 0 {
        format!("{} s", span.as_secs())
    } else {
        format!("{} ms", span.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_seconds_by_default() {
        assert_eq!(duration("5"), Some(Duration::from_secs(5)));
        assert_eq!(duration("2.5"), Some(Duration::from_millis(2500)));
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("5 min"), Some(Duration::from_secs(300)));
        assert_eq!(duration("1e2 s"), Some(Duration::from_secs(100)));
        for bad in ["", "-1", "5 parsecs", "ms", "inf", "1e400", "1e19", "5e", "e5", "nan"] {
            assert_eq!(duration(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn sizes_count_in_1024() {
        assert_eq!(bytes("1048576"), Some(1_048_576));
        assert_eq!(bytes("1MB"), Some(1_048_576));
        assert_eq!(bytes("16 kB"), Some(16_384));
        for bad in ["", "-1", "1XB", "9999999TB"] {
            assert_eq!(bytes(bad), None, "{bad:?}");
        }
    }
}
