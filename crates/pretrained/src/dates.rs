//! Dates as templates write them: Python's `strftime` in the C locale.

use chrono::{Datelike, NaiveDateTime};

/// The day, at midnight, of a date such as 2026-11-27.
pub(crate) fn midnight(date: &str) -> Result<NaiveDateTime, String> {
    match chrono::NaiveDate::parse_from_str(date, "%Y-%m-%d") {
        Ok(day) if (1..10_000).contains(&day.year()) => Ok(day.and_time(chrono::NaiveTime::MIN)),
        _ => Err(format!(
            "found the date {date:?}, expected one such as \"2026-11-27\""
        )),
    }
}

/// Formats a time that knows no zone, as that of Python's `datetime.now()` does.
pub(crate) fn strftime(format: &str, time: NaiveDateTime) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        // glibc's flags: no padding, padding by spaces or by zeros, upper case, the other case.
        let flags: String = rest.clone().take_while(|c| "-_0^#".contains(*c)).collect();
        let directive = rest.nth(flags.len());
        let unknown = || {
            let directive = directive.map_or_else(String::new, String::from);
            format!("strftime: the directive %{flags}{directive} is not supported")
        };
        let Some(letter) = directive
            .filter(|letter| "aAbBcCdDeFgGhHIjklmMnpPrRStTuUVwWxXyYzZ%f".contains(*letter))
        else {
            return Err(unknown());
        };
        let padding = flags.chars().rfind(|flag| "-_0".contains(*flag));
        let piece = match letter {
            // A time without a zone.
            'z' | 'Z' => String::new(),
            // Python fills in six digits by itself, and the flags mean nothing.
            'f' => time.format("%6f").to_string(),
            _ => {
                let padding = padding.filter(|_| "CdegGHIjklmMSuUVwWyY".contains(letter));
                let padding = padding.map(String::from).unwrap_or_default();
                time.format(&format!("%{padding}{letter}")).to_string()
            }
        };
        text += &match () {
            () if flags.contains('#') && letter == 'p' => piece.to_lowercase(),
            () if flags.contains(['^', '#']) => piece.to_uppercase(),
            () => piece,
        };
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: Python's `datetime.strftime`, on glibc.
    #[test]
    fn dates_are_written_as_in_python() {
        let time = |text: &str| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap();
        for (at, format, expected) in TABLE {
            assert_eq!(
                strftime(format, time(at)).as_deref(),
                Ok(*expected),
                "{format}"
            );
        }
        assert!(
            strftime("%Q", time("2026-01-01 00:00:00"))
                .unwrap_err()
                .contains("%Q")
        );
        assert!(strftime("a%", time("2026-01-01 00:00:00")).is_err());
    }

    #[test]
    fn a_date_is_a_day_of_the_calendar() {
        assert_eq!(
            strftime("%c", midnight("2024-02-29").unwrap()).as_deref(),
            Ok("Thu Feb 29 00:00:00 2024")
        );
        for wrong in ["2026-02-29", "27.11.2026", "2026-11-27T10:00", ""] {
            assert!(
                midnight(wrong).unwrap_err().contains("2026-11-27"),
                "{wrong}"
            );
        }
    }

    const TABLE: &[(&str, &str, &str)] = &[
        (
            "2026-11-23 10:04:05",
            "%d %b %Y|%A %a %B|%j %y|%H:%M:%S %I%p|%F|100%%",
            "23 Nov 2026|Monday Mon November|327 26|10:04:05 10AM|2026-11-23|100%",
        ),
        (
            "2026-11-23 10:04:05",
            "%-d %-m %-I %-j %-M %-y",
            "23 11 10 327 4 26",
        ),
        ("2026-11-23 10:04:05", "%_d|%_m|%_H|%0e", "23|11|10|23"),
        ("2026-11-23 10:04:05", "%e|%k|%l|%P|%h", "23|10|10|am|Nov"),
        (
            "2026-11-23 10:04:05",
            "%^a %^B %#p %#b %^p",
            "MON NOVEMBER am NOV AM",
        ),
        (
            "2026-11-23 10:04:05",
            "%c|%x|%X|%r|%R|%D|%T",
            "Mon Nov 23 10:04:05 2026|11/23/26|10:04:05|10:04:05 AM|10:04|11/23/26|10:04:05",
        ),
        (
            "2026-11-23 10:04:05",
            "%U %W %V %G %g %u %w %C",
            "47 47 48 2026 26 1 1 20",
        ),
        ("2026-11-23 10:04:05", "%f %z %Z|%n|%t", "000000  |\n|\t"),
        (
            "2024-12-31 23:59:59",
            "%d %b %Y|%A %a %B|%j %y|%H:%M:%S %I%p|%F|100%%",
            "31 Dec 2024|Tuesday Tue December|366 24|23:59:59 11PM|2024-12-31|100%",
        ),
        (
            "2024-12-31 23:59:59",
            "%-d %-m %-I %-j %-M %-y",
            "31 12 11 366 59 24",
        ),
        ("2024-12-31 23:59:59", "%_d|%_m|%_H|%0e", "31|12|23|31"),
        ("2024-12-31 23:59:59", "%e|%k|%l|%P|%h", "31|23|11|pm|Dec"),
        (
            "2024-12-31 23:59:59",
            "%^a %^B %#p %#b %^p",
            "TUE DECEMBER pm DEC PM",
        ),
        (
            "2024-12-31 23:59:59",
            "%c|%x|%X|%r|%R|%D|%T",
            "Tue Dec 31 23:59:59 2024|12/31/24|23:59:59|11:59:59 PM|23:59|12/31/24|23:59:59",
        ),
        (
            "2024-12-31 23:59:59",
            "%U %W %V %G %g %u %w %C",
            "52 53 01 2025 25 2 2 20",
        ),
        ("2024-12-31 23:59:59", "%f %z %Z|%n|%t", "000000  |\n|\t"),
        (
            "2000-02-09 00:07:08",
            "%d %b %Y|%A %a %B|%j %y|%H:%M:%S %I%p|%F|100%%",
            "09 Feb 2000|Wednesday Wed February|040 00|00:07:08 12AM|2000-02-09|100%",
        ),
        (
            "2000-02-09 00:07:08",
            "%-d %-m %-I %-j %-M %-y",
            "9 2 12 40 7 0",
        ),
        ("2000-02-09 00:07:08", "%_d|%_m|%_H|%0e", " 9| 2| 0|09"),
        ("2000-02-09 00:07:08", "%e|%k|%l|%P|%h", " 9| 0|12|am|Feb"),
        (
            "2000-02-09 00:07:08",
            "%^a %^B %#p %#b %^p",
            "WED FEBRUARY am FEB AM",
        ),
        (
            "2000-02-09 00:07:08",
            "%c|%x|%X|%r|%R|%D|%T",
            "Wed Feb  9 00:07:08 2000|02/09/00|00:07:08|12:07:08 AM|00:07|02/09/00|00:07:08",
        ),
        (
            "2000-02-09 00:07:08",
            "%U %W %V %G %g %u %w %C",
            "06 06 06 2000 00 3 3 20",
        ),
        ("2000-02-09 00:07:08", "%f %z %Z|%n|%t", "000000  |\n|\t"),
    ];
}
