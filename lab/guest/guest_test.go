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

// Verdicts of subtests are indented and not counted: a test counts once. What is skipped, also inside a test, has its reason.
func TestVerdictsAreCounted(t *testing.T) {
	var said int
	c := &counter{lines: &lines{say: func(string) { said++ }}}
	c.Write([]byte("=== RUN   TestA\n=== RUN   TestA/x\n    a_test.go:3: no root\n=== RUN   TestA/y\n    a_test.go:4: a figure\n--- PASS: TestA (0.00s)\n"))
	c.Write([]byte("    --- SKIP: TestA/x (0.00s)\n    --- PASS: TestA/y (0.00s)\n=== RUN   TestB\n    b_test.go:7: no de"))
	c.Write([]byte("vice\n--- SKIP: TestB (0.00s)\n--- FAIL: TestC (0.00s)\nPASS\n"))
	if c.passed != 1 || c.skipped != 1 || said != 13 {
		t.Errorf("%d passed, %d skipped, %d lines", c.passed, c.skipped, said)
	}
	if want := []string{"TestA/x: a_test.go:3: no root", "TestB: b_test.go:7: no device"}; !slices.Equal(c.reasons, want) {
		t.Errorf("reasons %q", c.reasons)
	}
}
