package house

import (
	"fmt"
	"slices"
	"strings"
)

// Floors is the house, the ground first. A package imports only from floors below its own; packages on one floor do not
// know each other. A name that ends in /* stands for every package directly below that folder which no other line names.
var Floors = [][]string{
	{"internal/poller", "internal/house", "internal/certs", "internal/rewind"},
	{"internal/tlsconn"},
	{"pmem"},
	{"fabric"},
	{"fabric/internal/*"},
	{"fabric/*"},
	{"timing"},
	{"mirror"},
	{"mirror/*"},
	{"workload"},
	{"workload/epochs", "workload/whisper/app"},
	{"workload/whisper/tm"},
	{"workload/whisper/btree"},
	{"workload/whisper/chain", "workload/whisper/crashtest", "workload/whisper/relational", "workload/whisper/pmfs"},
	{"workload/whisper/*"},
	{"workload/*"},
	{"internal/plog"},
	{"internal/store"},
	{"internal/resp"},
	{"internal/command"},
	{"internal/cluster"},
	{"internal/replication"},
	{"internal/replication/*"},
	{"internal/shard"},
	{"internal/sim"},
	{"internal/config"},
	{"internal/node"},
	{"internal/dev"},
	{"internal/loopback"},
	{"internal/mirroreval"},
	{"internal/eval"},
	{"internal/eval/*"},
	{"cmd/*"},
	{"internal/e2e"}, // tests of the built program only
	{"examples/internal/*"},
	{"examples/*"},
	{"examples"},
	{"lab/steps"},
	{"lab/*"},
	{"lab"},
}

// floor is the index of pkg's line in Floors, -1 if it has none.
func floor(pkg string) int {
	for i, line := range Floors {
		if slices.Contains(line, pkg) {
			return i
		}
	}
	dir, _, _ := cutLast(pkg)
	for i, line := range Floors {
		if slices.Contains(line, dir+"/*") {
			return i
		}
	}
	return -1
}

func cutLast(path string) (dir, base string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path, false
	}
	return path[:i], path[i+1:], true
}

// Imports reports what a file imports from its own floor or a higher one, and a file whose package has no place in the
// house. Tests may import anything: they stand outside.
func Imports(f *File) []string {
	if f.Test() {
		return nil
	}
	own := floor(f.Package())
	if own < 0 {
		return []string{fmt.Sprintf("%s: package %q has no floor: give it a line in house.Floors", f.Path, f.Package())}
	}
	var bad []string
	for spec, path := range f.imports {
		pkg, ours := strings.CutPrefix(path, Module+"/")
		if !ours {
			continue
		}
		switch other := floor(pkg); {
		case other < 0:
			bad = append(bad, fmt.Sprintf("%s: imports %s, which has no floor", f.at(spec.Pos()), path))
		case other >= own:
			bad = append(bad, fmt.Sprintf("%s: %s is on floor %d and imports %s on floor %d: imports go down",
				f.at(spec.Pos()), f.Package(), own, path, other))
		}
	}
	return bad
}
