//go:build linux

package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestMirrorCompare walks the commands as docs/timing.md does, and the mistakes that people make.
func TestMirrorCompare(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	says(t, dir, "mirror compare --workload transact-16 --transactions 20 --csv out.csv --plots .", 0,
		`transact-16 +1 +16\.0 +1\.00 +0\.99 us`, `sm-dd is [0-9.]+ times as fast`, `The paper's 2\.9 `, `drawn: slowdown\.svg, speedup\.svg`)
	for _, name := range []string{"out.csv", "slowdown.svg", "speedup.svg"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s was not written: %v", name, err)
		}
	}
	says(t, dir, "mirror compare --workload custom --epochs 2 --writes 3 --threads 2 --transactions 20 --csv -", 0,
		`^group,workload,`, `custom,transact,2,40,2\.00,2,3\.000,384\.0,`, `geometric mean`)
	says(t, dir, "mirror compare --workload custom --transactions 20 --sensitivity", 0, `one parameter at an end of its range`, `pcie\.read +200 +1000 +ns`, `the mean from`)
	says(t, dir, "mirror compare --fabric shm --dir . --rounds 1 --workload transact-4 --transactions 20", 0, `transact-4 `)
	says(t, dir, "mirror record --workload custom --epochs 3 --writes 2 --transactions 4", 0, `^2 2 2\n2 2 2\n2 2 2\n2 2 2\n$`)
	put("t.trace", "1 2 1\n5\n")
	says(t, dir, "mirror compare --trace t.trace --transactions 20", 0, `trace, geometric mean`)
	says(t, dir, "mirror params", 0, `queue_pair_rate = 10 # M/s, 5 to 20`)

	put("bad.trace", "1 2\nx\n")
	put("bad.toml", "[nic]\npipeline = 7\n")
	put("good.toml", "[nic]\npipeline = 200\n")
	says(t, dir, "mirror params --params good.toml", 0, `pipeline = 200 `)
	says(t, dir, "mirror compare --params bad.toml", 1, `bad\.toml: timing: nic\.pipeline = 7: want 80 to 250 ns`)
	says(t, dir, "mirror compare --trace bad.trace", 1, `bad\.trace, line 2: "x"`)
	says(t, dir, "mirror compare --trace t.trace --workload transact", 1, `exclude each other`)
	says(t, dir, "mirror compare --workload nothing", 1, `there is no workload "nothing": choose one of .*transact-16`)
	says(t, dir, "mirror compare --epochs 3", 1, `--epochs is for --workload custom alone`)
	says(t, dir, "mirror compare --workload custom --bytes 12", 1, `bytes = 12: want a multiple of 8`)
	says(t, dir, "mirror compare --fabric tcp --params good.toml", 1, `--params says nothing with --fabric tcp`)
	says(t, dir, "mirror compare --rounds 3", 1, `--rounds says nothing with --fabric model`)
	says(t, dir, "mirror compare --memory a,b", 1, `--memory says nothing with --fabric model`)
	says(t, dir, "mirror compare --fabric tcp --direct-write", 1, `--direct-write says nothing with --fabric tcp`)
	says(t, dir, "mirror compare --fabric shm --memory /dev/dax0.0", 1, `--memory /dev/dax0\.0: want two devices`)
	says(t, dir, "mirror compare --fabric shm --memory bad.toml,good.toml", 1, `bad\.toml: it is no device`)
	says(t, dir, "mirror compare --fabric shm --memory /dev/dax98.0,/dev/dax99.0", 1, `dax98\.0: no such file`)
	says(t, dir, "mirror compare --fabric pigeon --dir . --workload transact-1", 1, `provider "pigeon"`)
	says(t, dir, "mirror compare --threads -1", 1, `want 0 or more`)
	says(t, dir, "mirror record", 1, `a trace is of one workload`)
}
