//go:build linux

package main

import (
	"slices"
	"testing"

	"whale/lab/steps"
)

func TestTheGuestKnowsEachStep(t *testing.T) {
	for _, s := range steps.All {
		if doers[s.Name] == nil {
			t.Errorf("no function does %q", s.Name)
		}
	}
	if len(doers) != len(steps.All) {
		t.Errorf("%d functions for %d steps", len(doers), len(steps.All))
	}
}

func TestOutputIsCutIntoLines(t *testing.T) {
	var got []string
	l := &lines{say: func(text string) { got = append(got, text) }}
	for _, part := range []string{"o", "ne\ntwo\r\n\nth", "ree", "\n", "unfinished"} {
		if n, err := l.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := []string{"one", "two", "", "three"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// Verdicts of subtests are indented and not counted: a test counts once.
func TestVerdictsAreCounted(t *testing.T) {
	var said int
	c := &counter{lines: &lines{say: func(string) { said++ }}}
	c.Write([]byte("=== RUN   TestA\n--- PASS: TestA (0.00s)\n    --- PASS: TestA/sub (0.00s)\n--- SKI"))
	c.Write([]byte("P: TestB (0.00s)\n--- FAIL: TestC (0.00s)\n"))
	if c.passed != 1 || c.skipped != 1 || said != 5 {
		t.Errorf("%d passed, %d skipped, %d lines", c.passed, c.skipped, said)
	}
}
