package sim

import (
	"bytes"
	"context"
	"flag"
	"runtime"
	"strings"
	"testing"
)

var seeds = flag.Uint64("seeds", 100, "seeds to run; a tenth of them with -short: each is of one goroutine, and nothing for the race detector")

func TestSeeds(t *testing.T) {
	n := *seeds
	if testing.Short() {
		n = max(1, n/10)
	}
	report, err := Check(context.Background(), Campaign{Options: Options{Faults: DefaultFaults()}, Seeds: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d operations, %d faults, %d events", report.Operations, report.Faults, report.Events)
	if f := report.Failure; f != nil {
		text, _ := f.JSON()
		t.Fatalf("seed %d: %v\nsmaller: %v\n%s", f.Result.Seed, f.Result.Violation, f.Small.Violation, text)
	}
	if report.Unsure > 0 {
		t.Errorf("%d histories could not be checked in time", report.Unsure)
	}
}

// A run follows from its seed alone: told twice, also with a single processor, the story is the same to the byte.
func TestSameSeedSameStory(t *testing.T) {
	tell := func(seed uint64) string {
		var b bytes.Buffer
		if _, err := Run(seed, Options{Faults: DefaultFaults(), Trace: &b}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for seed := uint64(1); seed <= 5; seed++ {
		first := tell(seed)
		procs := runtime.GOMAXPROCS(1)
		second := tell(seed)
		runtime.GOMAXPROCS(procs)
		if first != second {
			t.Fatalf("seed %d: two stories of one seed", seed)
		}
		if strings.Count(first, "\n") < 500 || tell(seed+100) == first {
			t.Fatalf("seed %d: no story, or another seed's", seed)
		}
	}
}

// The kinds of faults really happen: each leaves its mark in some story.
func TestFaultsStrike(t *testing.T) {
	if testing.Short() {
		t.Skip("150 seeds")
	}
	f := DefaultFaults()
	told := map[string]bool{}
	marks := map[string]string{
		"crash": "its process ends", "in the middle": "in the middle of a step", "power": "loses its power", "pause": "is stopped for",
		"cut": "nothing gets through to", "slow": "and back is slow", "break": "the connection with", "damage": "of its memory turns",
		"wipe": "its memory is empty", "stall": "it stops in the middle", "stopped writer": "is stopped in the middle of it",
		"writer ends": "in the middle of a write", "fencing fails": "could not be fenced", "clock": "its wall clock is set", "a damaged member refuses": "does not start:",
		"full arena": "OOM command not allowed", "not executed": "TIMEOUT not executed", "unknown": "TIMEOUT outcome unknown",
		"watched key changed": "exec -> *-1",
	}
	for seed := uint64(0); seed < 150 && len(told) < len(marks); seed++ {
		var b bytes.Buffer
		if _, err := Run(seed, Options{Faults: f, Trace: &b}); err != nil {
			t.Fatal(err)
		}
		for what, mark := range marks {
			if strings.Contains(b.String(), mark) {
				told[what] = true
			}
		}
	}
	for what := range marks {
		if !told[what] {
			t.Errorf("150 seeds, and not once: %s", what)
		}
	}
}
