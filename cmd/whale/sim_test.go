package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSimCheck(t *testing.T) {
	dir := t.TempDir()
	says(t, dir, "sim check --seeds 3", 0, `^3 seeds, \d+ operations, \d+ faults, \d+ events in .*: \d+ operations a second\n$`)
	says(t, dir, "sim check --seeds 1 --seed 7 --trace story.txt", 0, "1 seeds")
	story, err := os.ReadFile(filepath.Join(dir, "story.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(story), "seed 7: ") || strings.Count(string(story), "\n") < 500 {
		t.Errorf("the story of seed 7 begins with %.200q", story)
	}
	faults := filepath.Join(dir, "faults.json")
	for n, c := range []struct {
		text string
		code int
		want string
	}{
		{`{"crash": 0, "power": 50}`, 0, "2 seeds"},
		{`{"crash": -1}`, 1, "--faults faults.json: the rate of crash is -1"},
		{`{"crush": 1}`, 1, `--faults faults.json: unknown field "crush": faults are crash`},
	} {
		if err := os.WriteFile(faults, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		says(t, dir, fmt.Sprintf("sim check --seeds 2 --seed %d --faults faults.json", n), c.code, c.want)
	}
	for line, want := range map[string]string{
		"--seeds 0":                        "--seeds 0: at least one",
		"--seeds 2 --trace x":              "--trace tells the story of one seed: give --seeds 1",
		"--seeds 1 --trace no/such/folder": "--trace: .*no/such/folder",
		"--faults none.json":               "--faults: .*none.json",
		"--workers -1":                     "--workers -1: it must be 0",
		"--seed 18446744073709551615":      "the last seed is beyond 64 bits",
		"more":                             `unknown command "more"|accepts 0 arg`,
	} {
		says(t, dir, "sim check "+line, 1, want)
	}
}
