//go:build linux

package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var (
	binary   string   // the program under test
	external []string // addresses of servers to test instead of an own cluster
	long     = os.Getenv("WHALE_E2E") == "long"
	fabric   = os.Getenv("WHALE_E2E_FABRIC") // of the clusters, as whale dev has it; empty: its default
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if s := os.Getenv("WHALE_E2E_ADDRS"); s != "" {
		external = strings.Split(s, ",")
		return m.Run()
	}
	if testing.Short() {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "whale-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "whale")
	if out, err := exec.Command("go", "build", "-o", binary, "whale/cmd/whale").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the program under test: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// size is n, or few of it under -short, or many times n in the long version.
func size(n, times int) int {
	switch {
	case testing.Short():
		return n / 20
	case long:
		return n * times
	}
	return n
}

// arenaSize is what the test's data fill most of.
func arenaSize(usual, whenLong string) string {
	if long {
		return whenLong
	}
	return usual
}
