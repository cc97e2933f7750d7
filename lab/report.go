package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"whale/lab/steps"
)

// report shows a run as it goes and sums it up. A step is good when the guest said so, and in no other case.
type report struct {
	out     io.Writer
	wanted  []steps.Step
	verbose bool

	lines   []string // of the step that runs
	notes   map[string][]string
	ended   map[string]steps.Event
	current string
	done    bool
}

func newReport(out io.Writer, wanted []steps.Step, verbose bool) *report {
	return &report{out: out, wanted: wanted, verbose: verbose, notes: map[string][]string{}, ended: map[string]steps.Event{}}
}

// event takes in what the guest said.
func (r *report) event(e steps.Event) {
	switch e.Kind {
	case steps.Ready:
		fmt.Fprintf(r.out, "the guest is up, %.1f s after its start\n", e.Seconds)
	case steps.Begin:
		r.current, r.lines = e.Step, nil
		if r.verbose {
			fmt.Fprintf(r.out, "=== %s\n", e.Step)
		}
	case steps.Line:
		r.lines = append(r.lines, e.Text)
		if r.verbose {
			fmt.Fprintf(r.out, "    %s\n", e.Text)
		}
	case steps.Note:
		r.notes[e.Step] = append(r.notes[e.Step], e.Text)
		if r.verbose {
			fmt.Fprintf(r.out, "    %s\n", e.Text)
		}
	case steps.End:
		r.ended[e.Step] = e
		r.current = ""
		if e.Failed {
			if !r.verbose {
				r.showLines()
			}
			fmt.Fprintf(r.out, "%-12s FAILED, %.1f s: %s\n", e.Step, e.Seconds, e.Text)
			return
		}
		fmt.Fprintf(r.out, "%-12s ok, %.1f s\n", e.Step, e.Seconds)
	case steps.Done:
		r.done = true
	}
}

// shown is how many lines of a step that failed are printed.
const shown = 120

// uninteresting is what a test program prints about tests that did not fail.
var uninteresting = regexp.MustCompile(`^\s*(=== (RUN|PAUSE|CONT|NAME) |--- (PASS|SKIP): )`)

// showLines prints what the step printed, for a failure.
func (r *report) showLines() {
	lines := slices.DeleteFunc(slices.Clone(r.lines), uninteresting.MatchString)
	from := max(len(lines)-shown, 0)
	if len(lines) < len(r.lines) || from > 0 {
		fmt.Fprintf(r.out, "    (%d lines in all; --verbose shows them)\n", len(r.lines))
	}
	for _, line := range lines[from:] {
		fmt.Fprintf(r.out, "    %s\n", line)
	}
}

// finish prints the table. The error says which steps did not end well.
func (r *report) finish(console string, err error) error {
	var bad []string
	fmt.Fprintln(r.out)
	for _, s := range r.wanted {
		e, ended := r.ended[s.Name]
		verdict := "ok"
		switch {
		case !ended:
			verdict = "NOT RUN"
			if r.current == s.Name {
				verdict = "NO END"
			}
		case e.Failed:
			verdict = "FAILED"
		}
		if verdict != "ok" {
			bad = append(bad, s.Name)
		}
		fmt.Fprintf(r.out, "%-8s %6.1f s  %-12s %s\n", verdict, e.Seconds, s.Name, s.What)
		for _, n := range r.notes[s.Name] {
			fmt.Fprintf(r.out, "%32s%s\n", "", n)
		}
	}
	if !r.done {
		err = errors.Join(err, errors.New("the guest did not come to its end"))
		if r.current != "" {
			r.showLines()
		}
	}
	if said := strings.Split(strings.TrimSpace(console), "\n"); !r.done || len(bad) > 0 {
		fmt.Fprintf(r.out, "\nThe end of what the guest's console showed:\n%s\n", strings.Join(said[max(len(said)-shown/4, 0):], "\n"))
	}
	if len(bad) > 0 {
		err = errors.Join(err, fmt.Errorf("not passed: %s", strings.Join(bad, ", ")))
	}
	return err
}
