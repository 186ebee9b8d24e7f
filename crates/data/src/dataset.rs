//! From files and objectives to labelled records.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::columns::note;
use crate::error::{DataError, ObjectiveError, RecordProblem, Trouble};
use crate::file::{FileReader, Taker};
use crate::labels::{Finding, LabelledBy, alone, verdict};
use crate::mismatched::add_mismatched;
use crate::objective::{ObjectiveSpec, Part};
use crate::readers::fields::{self, Row};
use crate::readers::{Format, Reading};
use crate::record::{Example, Record, Scores, Source};
use crate::report::{DataReport, ObjectiveReport, SkipReason, Skipped};
use crate::rows::Rows;
use crate::tokenize::{TextEncoder, TokenLimits, Tokenizing};
use crate::tolerance::Tolerance;
use crate::{Judgement, RecordKind};

/// How data is loaded; [`load`] has the usual answers.
#[derive(Debug, Clone, Copy)]
pub struct Loader {
    /// What is trained on.
    pub kind: RecordKind,
    /// Training or evaluation, for objectives with their own data sets.
    pub part: Part,
    /// The format of the shared files. `None`: told by the columns of each file's first record.
    pub format: Option<Format>,
    /// What to do with records that cannot be used.
    pub tolerance: Tolerance,
    /// Which records with answers of their own are kept.
    pub labelled_by: LabelledBy,
    /// Whether texts are what the model reads as they are: those that hold JSON or a transcript are not read as turns.
    pub as_written: bool,
    /// RLHF: whether the records' own responses are learned from beside the answers. Otherwise they are words to compare with,
    /// unless their scores are asked for.
    pub own_responses: bool,
}

/// Reads training records of shared files and of the objectives' own data sets.
///
/// `shared` may be empty where every objective has its own files. For SFT, a file of pairs is
/// read as its preferred responses: each response that some objective prefers makes a record,
/// an example of those objectives. For KTO, each response of a pair is judged by itself: the preferred one is desirable,
/// the other one is not; of several responses the one that wins every comparison is, and the one that loses every one
/// is not. With more than two, only who is better counts, whatever the objective's `strength`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use panacea_data::{LabelSource, ObjectiveSpec, RecordKind, Rule, load};
///
/// # let folder = tempfile::tempdir()?;
/// # let file = folder.path().join("train.jsonl");
/// std::fs::write(&file, r#"{"prompt": "Hi!", "chosen": "Hello there.", "rejected": "Yo."}"#)?;
/// let objectives = [
///     ObjectiveSpec::new("overall", LabelSource::Chosen),
///     ObjectiveSpec::new("conciseness", LabelSource::Rule(Rule::Shorter)),
/// ];
/// let (records, _report) = load(&[file], &objectives, RecordKind::Pair)?;
/// assert_eq!(records[0].judgements[0].labels, [Some(1.0), Some(0.0)]);
/// # Ok(())
/// # }
/// ```
pub fn load(
    shared: &[PathBuf],
    objectives: &[ObjectiveSpec],
    kind: RecordKind,
) -> Result<(Vec<Record>, DataReport), DataError> {
    Loader::new(kind).load(shared, objectives)
}

impl Loader {
    /// Training data, formats told by their columns, bad records are errors.
    pub fn new(kind: RecordKind) -> Self {
        Self {
            kind,
            part: Part::Train,
            format: None,
            tolerance: Tolerance::default(),
            labelled_by: LabelledBy::Any,
            as_written: false,
            own_responses: false,
        }
    }

    /// Reads all files; see [`load`].
    pub fn load(
        &self,
        shared: &[PathBuf],
        objectives: &[ObjectiveSpec],
    ) -> Result<(Vec<Record>, DataReport), DataError> {
        let mut all = Vec::new();
        let report = self.read(shared, objectives, &mut |records, _| {
            all.extend(records);
            Ok(())
        })?;
        Ok((all, report))
    }

    /// What [`Loader::load`] says of all files, without keeping their records.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub fn report(
        &self,
        shared: &[PathBuf],
        objectives: &[ObjectiveSpec],
    ) -> Result<DataReport, DataError> {
        self.read(shared, objectives, &mut |_, _| Ok(()))
    }

    /// Reads all files and makes tokens of them: what [`tokenize`](crate::tokenize) makes of what [`load`] reads. Of the records,
    /// no more than a few megabytes, or one, are in memory at a time in whole words.
    ///
    /// Those that are judged alone, for KTO, get a response to another prompt behind their own. It may be far away, so that the
    /// words of all of them are in memory until every record was read.
    ///
    /// # Errors
    /// Those of both; for KTO also that there is only one prompt.
    pub fn examples(
        &self,
        shared: &[PathBuf],
        objectives: &[ObjectiveSpec],
        encoder: &impl TextEncoder,
        limits: &TokenLimits,
    ) -> Result<(Vec<Example>, DataReport), DataError> {
        let mut tokenizing = Tokenizing::new(encoder, limits, self.tolerance)?;
        let is_for_kto = self.kind == RecordKind::Unpaired;
        if is_for_kto {
            tokenizing.keep_judged();
        }
        let mut add =
            |records: Vec<Record>, report: &mut DataReport| tokenizing.add(records, report);
        let mut report = self.read(shared, objectives, &mut add)?;
        let mut examples = tokenizing.finish(&mut report)?;
        if is_for_kto && !examples.is_empty() {
            add_mismatched(&mut examples, encoder, limits)?;
        }
        Ok((examples, report))
    }

    /// Reads all files and hands the records on, some at a time.
    fn read(
        &self,
        shared: &[PathBuf],
        objectives: &[ObjectiveSpec],
        hand_on: &mut HandOn<'_>,
    ) -> Result<DataReport, DataError> {
        ObjectiveSpec::check_all(objectives)?;
        for objective in objectives {
            objective.check_kind(self.kind)?;
        }
        self.check_files(shared, objectives)?;
        let mut loading = Loading::new(self, objectives, hand_on);
        let over_shared: Vec<usize> = (0..objectives.len())
            .filter(|&i| objectives[i].own_files(self.part).is_empty())
            .collect();
        for file in shared {
            loading.read_file(file, self.format, &over_shared, None)?;
        }
        for (i, objective) in objectives.iter().enumerate() {
            for file in objective.own_files(self.part) {
                loading.read_file(file, objective.format, &[i], Some(&objective.name))?;
            }
        }
        loading.finish()
    }

    /// Every objective has files, and every file has an objective.
    fn check_files(
        &self,
        shared: &[PathBuf],
        objectives: &[ObjectiveSpec],
    ) -> Result<(), ObjectiveError> {
        let part = self.part.name();
        let without_own = objectives
            .iter()
            .find(|objective| objective.own_files(self.part).is_empty());
        match (without_own, shared.first()) {
            (Some(objective), None) => Err(ObjectiveError::NoFiles {
                name: objective.name.clone(),
                part,
            }),
            (None, Some(file)) => Err(ObjectiveError::UnreadFile {
                file: file.clone(),
                part,
            }),
            _ => Ok(()),
        }
    }
}

/// What takes the records that were read.
type HandOn<'a> = dyn FnMut(Vec<Record>, &mut DataReport) -> Result<(), DataError> + 'a;

/// Records are handed on once their texts have so many bytes. It is work for all cores, and little beside a model.
const ENOUGH: usize = 4 << 20;

/// The state of one load.
struct Loading<'a> {
    loader: &'a Loader,
    objectives: &'a [ObjectiveSpec],
    hand_on: &'a mut HandOn<'a>,
    /// Those that were not handed on yet, and the bytes of their texts.
    records: Vec<Record>,
    bytes: usize,
    report: DataReport,
    /// Per objective, what its rows have: for the message when there is no label.
    columns: Vec<BTreeSet<String>>,
    score_keys: Vec<BTreeSet<String>>,
}

impl<'a> Loading<'a> {
    fn new(
        loader: &'a Loader,
        objectives: &'a [ObjectiveSpec],
        hand_on: &'a mut HandOn<'a>,
    ) -> Self {
        let report = DataReport {
            objectives: objectives
                .iter()
                .map(|objective| ObjectiveReport {
                    name: objective.name.clone(),
                    ..ObjectiveReport::default()
                })
                .collect(),
            ..DataReport::default()
        };
        Self {
            loader,
            objectives,
            hand_on,
            records: Vec::new(),
            bytes: 0,
            report,
            columns: vec![BTreeSet::new(); objectives.len()],
            score_keys: vec![BTreeSet::new(); objectives.len()],
        }
    }

    /// Reads one file for the objectives with the indices `readers`.
    fn read_file(
        &mut self,
        file: &Path,
        format: Option<Format>,
        readers: &[usize],
        objective: Option<&str>,
    ) -> Result<(), DataError> {
        let reader = FileReader {
            kind: self.loader.kind,
            format,
            tolerance: self.loader.tolerance,
            as_written: self.loader.as_written,
            objective,
        };
        let mut taker = ForObjectives {
            loading: self,
            readers,
        };
        reader.read(Rows::File(file), &mut taker)
    }

    /// Takes what a row has for the objectives `readers`, and returns what the report says of how it was read.
    fn take_row(
        &mut self,
        source: &Source,
        row: &Row,
        format: Format,
        readers: &[usize],
    ) -> Result<Option<String>, Trouble> {
        if self.loader.kind == RecordKind::Prompt {
            return self.take_prompt(source, row, format, readers);
        }
        let reading = format.read(row).map_err(RecordProblem::Field)?;
        let note = reading.note.clone();
        let count = reading.responses.len();
        if count < 2 && self.loader.kind == RecordKind::Pair {
            let format = format.name();
            return Err(RecordProblem::NeedsPairs { format }.into());
        }
        let pairs = reading.differing_pairs();
        if count > 1 && pairs.is_empty() {
            self.skip(source, SkipReason::IdenticalResponses);
            return Ok(None);
        }
        self.note_columns(row, readers);
        let mut judgements = match count {
            1 => {
                let labels = self.label_alone(row, readers)?;
                vec![Judgement::single(labels)]
            }
            _ => self.label_pairs(row, format, &reading, &pairs, readers)?,
        };
        judgements.retain(|judgement| judgement.labels.iter().any(Option::is_some));
        if let Some(reason) = self.loader.labelled_by.refuses(&judgements, readers) {
            self.skip(source, reason);
            return Ok(None);
        }
        match self.loader.kind {
            RecordKind::Sft if count > 1 => {
                let kept = self.report.kept;
                self.keep_preferred(source, reading, &judgements);
                if self.report.kept == kept {
                    self.skip(source, SkipReason::Unlabelled);
                    return Ok(None);
                }
            }
            RecordKind::Unpaired if count > 1 => {
                let each = self.judged_alone(count, &judgements);
                if each.is_empty() {
                    self.skip(source, SkipReason::Unlabelled);
                    return Ok(None);
                }
                self.keep_judged(source, reading, each);
            }
            _ => self.keep_judged(source, reading, judgements),
        }
        Ok(note)
    }

    /// A prompt. Its responses are read only where an objective asks for the record's own scores of them; otherwise the first
    /// one is kept if it can be used, as what answers may be compared with.
    fn take_prompt(
        &mut self,
        source: &Source,
        row: &Row,
        format: Format,
        readers: &[usize],
    ) -> Result<Option<String>, Trouble> {
        let objectives = self.objectives;
        let asks = |i: &usize| objectives[*i].asks_for_own_scores();
        let reading = match readers.iter().any(asks) {
            true => format.read(row),
            false => format.read_prompt(row),
        };
        let reading = reading.map_err(RecordProblem::Field)?;
        let note = reading.note;
        let count = reading.responses.len();
        let first = reading.responses.first();
        for objective in objectives {
            let compared = first.is_some_and(|own| !own.text().trim().is_empty());
            if objective.compares_with_own_response() && !compared {
                let problem = format.lacks_response(row, &objective.name);
                return Err(RecordProblem::Field(problem).into());
            }
        }
        let mut found = Vec::with_capacity(readers.len());
        for &i in readers {
            let own = objectives[i].own_scores(row, count);
            found.push(own.map_err(RecordProblem::Label)?);
        }
        let references = self.reference_columns().map(|column| {
            let reference = fields::reference(row, column)?;
            Ok((column.to_owned(), reference))
        });
        let references = references
            .collect::<Result<_, _>>()
            .map_err(RecordProblem::Field)?;
        self.note_columns(row, readers);
        let mut scores: Vec<Scores> = vec![vec![None; objectives.len()]; count];
        for (&i, own) in readers.iter().zip(found) {
            let counts = &mut self.report.objectives[i];
            let Some(own) = own else {
                counts.missing += usize::from(objectives[i].asks_for_own_scores());
                continue;
            };
            for (of_response, score) in scores.iter_mut().zip(own) {
                counts.labelled += usize::from(score.is_some());
                counts.missing += usize::from(score.is_none());
                of_response[i] = score;
            }
        }
        self.keep(Record {
            source: source.clone(),
            prompt: reading.prompt,
            respelt: None,
            variables: reading.variables,
            responses: reading.responses,
            reads_responses: self.loader.own_responses || readers.iter().any(asks),
            judgements: Vec::new(),
            scores,
            references,
        });
        Ok(note)
    }

    /// The columns of reference answers of all objectives. Every answer to a prompt is scored for each of them, whichever
    /// file the prompt is from.
    fn reference_columns(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let is_scored = self.loader.kind == RecordKind::Prompt;
        let objectives = self.objectives.iter().filter(move |_| is_scored);
        objectives.filter_map(ObjectiveSpec::reference_column)
    }

    /// The labels of a row's only response, counted.
    fn label_alone(&mut self, row: &Row, readers: &[usize]) -> Result<Vec<Option<f64>>, Trouble> {
        let mut found = Vec::with_capacity(readers.len());
        for &i in readers {
            let objective = &self.objectives[i];
            let finding = match self.loader.kind {
                RecordKind::Unpaired => {
                    objective.check_unpaired().map_err(DataError::from)?;
                    objective.label_unpaired(row)
                }
                _ => {
                    objective.check_sft().map_err(DataError::from)?;
                    objective.label_single(row)
                }
            };
            found.push(finding.map_err(RecordProblem::Label)?);
        }
        Ok(self.counted(readers, &found))
    }

    /// The labels of each two of a row's responses, counted once all of them are known: a row that is refused counts for
    /// nothing.
    fn label_pairs(
        &mut self,
        row: &Row,
        format: Format,
        reading: &Reading,
        pairs: &[[usize; 2]],
        readers: &[usize],
    ) -> Result<Vec<Judgement>, Trouble> {
        let mut found = Vec::with_capacity(pairs.len() * readers.len());
        for &pair in pairs {
            for &i in readers {
                let finding = self.objectives[i].label_pair(row, format, reading, pair);
                found.push(finding.map_err(RecordProblem::Label)?);
            }
        }
        let of_pairs = pairs.iter().zip(found.chunks(readers.len()));
        Ok(of_pairs
            .map(|(&[first, second], found)| {
                Judgement::pair(first, second, self.counted(readers, found))
            })
            .collect())
    }

    /// What the objectives `readers` have found, as a label for each objective there is.
    fn counted(&mut self, readers: &[usize], found: &[Finding]) -> Vec<Option<f64>> {
        let mut labels = vec![None; self.objectives.len()];
        for (&i, finding) in readers.iter().zip(found) {
            let counts = &mut self.report.objectives[i];
            match finding {
                Finding::Label(label) => {
                    counts.labelled += 1;
                    labels[i] = Some(*label);
                }
                Finding::Tie => counts.ties += 1,
                Finding::Missing => counts.missing += 1,
            }
        }
        labels
    }

    /// Compared responses as SFT records: each is an example of the objectives that prefer it to
    /// every response that they compare it with.
    fn keep_preferred(&mut self, source: &Source, mut reading: Reading, judgements: &[Judgement]) {
        let responses = std::mem::take(&mut reading.responses);
        for (index, response) in responses.into_iter().enumerate() {
            let labels: Vec<Option<f64>> = (0..self.objectives.len())
                .map(|objective| {
                    verdict(index, judgements, objective).filter(|&verdict| verdict == 1.0)
                })
                .collect();
            if labels.iter().any(Option::is_some) {
                let judgement = Judgement::single(labels);
                let reading = Reading {
                    responses: vec![response],
                    ..reading.clone()
                };
                self.keep_judged(source, reading, vec![judgement]);
            }
        }
    }

    /// Compared responses, each judged by itself: KTO's records.
    fn judged_alone(&mut self, responses: usize, judgements: &[Judgement]) -> Vec<Judgement> {
        let each = alone(responses, judgements, self.objectives.len());
        // What is counted from here on are responses, not comparisons.
        for (i, counts) in self.report.objectives.iter_mut().enumerate() {
            let labelled = |of: &[Judgement]| of.iter().filter(|j| j.labels[i].is_some()).count();
            counts.labelled = counts.labelled + labelled(&each) - labelled(judgements);
        }
        each
    }

    fn keep_judged(&mut self, source: &Source, reading: Reading, judgements: Vec<Judgement>) {
        self.keep(Record {
            source: source.clone(),
            prompt: reading.prompt,
            respelt: reading.respelt,
            variables: reading.variables,
            responses: reading.responses,
            reads_responses: true,
            judgements,
            scores: Vec::new(),
            references: BTreeMap::new(),
        });
    }

    fn keep(&mut self, record: Record) {
        self.report.count_used(&record.judgements, &record.scores);
        self.report.kept += 1;
        self.bytes += record.text_bytes();
        self.records.push(record);
    }

    fn hand_on(&mut self) -> Result<(), DataError> {
        self.bytes = 0;
        (self.hand_on)(std::mem::take(&mut self.records), &mut self.report)
    }

    fn skip(&mut self, source: &Source, reason: SkipReason) {
        let source = source.clone();
        self.report.skipped.push(Skipped { source, reason });
    }

    fn note_columns(&mut self, row: &Row, readers: &[usize]) {
        let score_keys = row.get("scores").and_then(|scores| scores.as_object());
        for &i in readers {
            note(&mut self.columns[i], row.keys());
            note(
                &mut self.score_keys[i],
                score_keys.into_iter().flat_map(|keys| keys.keys()),
            );
        }
    }

    fn finish(mut self) -> Result<DataReport, DataError> {
        self.hand_on()?;
        self.loader.tolerance.check(&self.report)?;
        for (i, counts) in self.report.objectives.iter().enumerate() {
            let objective = &self.objectives[i];
            let needs_none =
                self.loader.kind == RecordKind::Prompt && !objective.asks_for_own_scores();
            if counts.labelled > 0 || needs_none {
                continue;
            }
            return Err(DataError::NoLabel {
                objective: counts.name.clone(),
                wanted: objective.source.to_string(),
                what: match self.loader.kind {
                    RecordKind::Pair => "pairs of responses",
                    _ => "responses, or pairs of them,",
                },
                found: counts.ties + counts.missing,
                ties: counts.ties,
                missing: counts.missing,
                columns: self.columns[i].iter().cloned().collect(),
                scores: self.score_keys[i].iter().cloned().collect(),
                note: objective.where_labels_are(&self.columns[i]),
            });
        }
        Ok(self.report)
    }
}

/// Takes the rows of one file for some of the objectives.
struct ForObjectives<'l, 'a> {
    loading: &'l mut Loading<'a>,
    /// Their indices.
    readers: &'l [usize],
}

impl Taker for ForObjectives<'_, '_> {
    fn report(&mut self) -> &mut DataReport {
        &mut self.loading.report
    }

    fn reads(&self, column: &str) -> bool {
        let mut readers = self.readers.iter();
        readers.any(|&i| self.loading.objectives[i].reads(column))
            || (self.loading.reference_columns()).any(|read| read == column)
    }

    fn take(
        &mut self,
        source: &Source,
        row: &Row,
        format: Format,
    ) -> Result<Option<String>, Trouble> {
        self.loading.take_row(source, row, format, self.readers)
    }

    fn row_is_done(&mut self) -> Result<(), DataError> {
        match self.loading.bytes < ENOUGH {
            true => Ok(()),
            false => self.loading.hand_on(),
        }
    }
}
