package mirror_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"whale/mirror"
	"whale/pmem"
)

// The child process is a primary: it commits transaction after transaction and says each number once it has committed. A transaction writes
// its number over a record, an epoch for each line, and then into the head.
const (
	childEnv   = "WHALE_TEST_MIRROR_CHILD"
	records    = 16
	recordSize = 256
	childSize  = 4096 + records*recordSize
)

func TestMain(m *testing.M) {
	if args := os.Getenv(childEnv); args != "" {
		if err := child(strings.Split(args, "\n")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(args []string) error {
	provider, strategy, path, addr := args[0], args[1], args[2], args[3]
	s, err := mirror.ParseStrategy(strategy)
	if err != nil {
		return err
	}
	open := providers[provider]
	if provider == "verbs" {
		open = overVerbs
	}
	ep, err := open(filepath.Dir(path))
	if err != nil {
		return err
	}
	m, err := pmem.Map(path, mirror.HeadSize+childSize, pmem.Options{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := mirror.Open(ctx, m, ep, []string{addr}, mirror.Options{Strategy: s})
	if err != nil {
		return err
	}
	for n := r.Load64(0) + 1; ; n++ {
		tx, err := r.Begin()
		if err != nil {
			return err
		}
		for line := uint64(0); line < recordSize; line += 64 {
			tx.Write(record(n)+line, bytes.Repeat(binary.LittleEndian.AppendUint64(nil, n), 8))
			tx.Barrier()
		}
		tx.Store64(0, n)
		if err := tx.Commit(); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

func record(n uint64) uint64 { return 4096 + n%records*recordSize }

// checkRecords says what is wrong with a copy after the primary's death. said is the last number that it has told of.
func checkRecords(b []byte, said uint64) error {
	word := func(off uint64) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
	head := word(0)
	if head < said {
		return fmt.Errorf("the head is %d, and %d was committed", head, said)
	}
	for n := head; n > 0 && n+records-1 > head; n-- {
		for off := uint64(0); off < recordSize; off += 8 {
			if got := word(record(n) + off); got != n {
				return fmt.Errorf("the head is %d, and the word at %d of record %d is %d", head, off, n, got)
			}
		}
	}
	// The record that the next transaction overwrites is the only one that may be in between.
	next, old, seen := head+1, int64(head)+1-records, false
	for off := uint64(0); off < recordSize; off += 64 { // an epoch each: no line of the new record behind one that lacks it
		for at := off; at < off+64; at += 8 {
			switch got := word(record(next) + at); {
			case got == next && seen && at%64 == 0:
				return fmt.Errorf("the epochs of record %d are out of order at %d", next, at)
			case got != next && got != uint64(max(old, 0)):
				return fmt.Errorf("the word at %d of record %d is %d", at, next, got)
			case got != next:
				seen = true
			}
		}
	}
	return nil
}

// TestKilledPrimary: the primary's process is killed at random moments; the mirror's copy, and its own, hold what the epochs allow and
// all that had committed; and then it goes on where it was.
func TestKilledPrimary(t *testing.T) {
	rounds := 4
	if testing.Short() {
		rounds = 2
	}
	for provider := range providers {
		for _, s := range mirrored {
			t.Run(provider+", "+s.String(), func(t *testing.T) {
				dir, rng := t.TempDir(), rand.New(rand.NewPCG(uint64(len(provider)), uint64(s)))
				herePath, therePath := filepath.Join(dir, "primary", "region"), filepath.Join(dir, "mirror")
				if err := os.Mkdir(filepath.Dir(herePath), 0o700); err != nil {
					t.Fatal(err)
				}
				there := mapped(t, therePath, childSize, pmem.FileShared)
				ep := endpoint(t, provider)
				serve(t, ep, there)
				last := uint64(0)
				for range rounds {
					last = killAndCheck(t, rng, last, there, provider, s.String(), herePath, ep.Addr())
				}
				t.Logf("%d transactions, %d kills", last, rounds)
			})
		}
	}
}

// killAndCheck has a child with these arguments go on where the last one ended, kills it, and checks its memory and that of its mirror,
// there.
func killAndCheck(t *testing.T, rng *rand.Rand, last uint64, there *pmem.File, provider, strategy, path, addr string) (said uint64) {
	t.Helper()
	if said = killed(t, rng, provider, strategy, path, addr); said <= last {
		t.Fatalf("it went on at %d after %d", said, last)
	}
	here, err := pmem.Map(path, mirror.HeadSize+childSize, pmem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	for side, m := range map[string]*pmem.File{"here": here, "there": there} {
		if err := checkRecords(region(m.Bytes()), said); err != nil {
			t.Errorf("%s: %v", side, err)
		}
		if l, err := mirror.Inspect(m); err != nil || l.State.Condition != mirror.Opened {
			t.Errorf("%s: the label is %v, %v", side, l, err)
		}
	}
	return said
}

// killed runs the child until it has committed some, kills it, and returns the last number that it said.
func killed(t *testing.T, rng *rand.Rand, args ...string) (said uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(args, "\n"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, stop := bufio.NewScanner(out), 1+rng.IntN(300)
	for n := 0; lines.Scan(); n++ {
		if said, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
			t.Fatal(err)
		}
		if n == stop {
			// Somewhere inside one of the next transactions: how many steps of this loop it takes is up to the machine.
			for range rng.IntN(20000) {
			}
			cmd.Process.Kill()
		}
	}
	if cmd.Wait(); said == 0 {
		t.Fatal("it has committed nothing")
	}
	return said
}
