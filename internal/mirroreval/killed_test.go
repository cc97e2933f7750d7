//go:build linux

package mirroreval

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"whale/fabric"
	"whale/internal/loopback"
	"whale/mirror"
	"whale/pmem"
	"whale/workload"
	"whale/workload/whisper"
	"whale/workload/whisper/app"
)

// The child process is a primary that runs an application of the suite on a region that is there, with a mirror in its parent; it says
// how many transactions have committed after each.
const killedEnv = "WHALE_TEST_KILLED"

func TestMain(m *testing.M) {
	if args := os.Getenv(killedEnv); args != "" {
		fmt.Fprintln(os.Stderr, primary(strings.Split(args, "\n")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// primary never ends by itself.
func primary(args []string) error {
	provider, strategy, name, path, addr, broken := args[0], args[1], args[2], args[3], args[4], args[5]
	seed, err := strconv.ParseUint(args[6], 10, 64)
	if err != nil {
		return err
	}
	s, err := mirror.ParseStrategy(strategy)
	if err != nil {
		return err
	}
	a, err := whisper.Find(name)
	if err != nil {
		return err
	}
	w := a.New()
	ep, err := loopback.Open(provider, path+".fabric", loopback.Memory{Domain: pmem.FileShared})
	if err != nil {
		return err
	}
	if broken == "lossy" {
		n := 0
		ep = spoiled{ep, func(op *fabric.Op) { // every ninth write goes to a place that nobody looks at
			if n++; op.Kind == fabric.Write && op.Len <= 64 && n > 200 && n%9 == 0 {
				op.Remote.Off = 2048
			}
		}}
	}
	m, err := pmem.Map(path, 0, pmem.Options{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := mirror.Open(ctx, m, ep, []string{addr}, mirror.Options{Strategy: s, Threads: w.Threads()})
	if err != nil {
		return err
	}
	p, err := w.Open(r)
	if err != nil {
		return err
	}
	run := inTurn(p, w, seed)
	for n := 1; ; n++ {
		if broken == "early" {
			fmt.Println(n)
		}
		if err := run(); err != nil {
			return err
		}
		if broken != "early" {
			fmt.Println(n)
		}
	}
}

// inTurn runs transaction after transaction, the threads' in turn: what the data hold after each follows from the seed.
func inTurn(p workload.Program, w workload.Workload, seed uint64) func() error {
	threads := make([]*workload.Thread, w.Threads())
	for i := range threads {
		threads[i] = workload.NewThread(i, seed, app.Still{})
	}
	n := 0
	return func() error {
		n++
		return p.Run(threads[(n-1)%len(threads)], 1)
	}
}

// killing is an application whose primary is killed.
type killing struct {
	*Subject
	provider string
	strategy mirror.Strategy
	broken   string
}

// once runs the application in a child, kills it after some transactions, and opens what is left on either side: it passes the application's
// check, and has every transaction that the child told of, or one more.
func (k *killing) once(t *testing.T, rng *rand.Rand) error {
	dir, err := os.MkdirTemp("/dev/shm", "whale-killed-")
	if err != nil {
		dir = t.TempDir() // a machine without it
	}
	defer os.RemoveAll(dir)
	var sides [2]*pmem.File
	for i, name := range []string{"primary", "mirror"} {
		if sides[i], err = pmem.Map(filepath.Join(dir, name), uint64(len(k.image)), pmem.Options{}); err != nil {
			t.Fatal(err)
		}
		defer sides[i].Close()
	}
	k.reset(sides[0], sides[1])
	ep, err := loopback.Open(k.provider, filepath.Join(dir, "m"), loopback.Memory{Domain: pmem.FileShared})
	if err != nil {
		t.Fatal(err)
	}
	defer ep.Close()
	x, err := mirror.NewExport(ep, sides[1])
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- x.Serve(ctx) }()
	seed := rng.Uint64()
	said := killAfter(t, 1+rng.IntN(60), rng.IntN(20000), k.provider, k.strategy.String(), k.Name(), filepath.Join(dir, "primary"), ep.Addr(), k.broken,
		strconv.FormatUint(seed, 10))
	stop()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	want, err := k.contents(seed, said)
	if err != nil {
		t.Fatal(err)
	}
	for i, side := range []string{"the primary's copy", "the mirror's copy"} {
		if err := k.survives(sides[i], want); err != nil {
			return fmt.Errorf("%s, %s, %v, killed after transaction %d: %s: %w", k.Name(), k.provider, k.strategy, said, side, err)
		}
	}
	return nil
}

// killAfter runs a child until it has told of some transactions, and how many it has told of when it is dead. How far it is in the next
// one is up to the machine, and to how many steps of a loop are waited.
func killAfter(t *testing.T, transactions, steps int, args ...string) (said int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedEnv+"="+strings.Join(args, "\n"))
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if said, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(err)
		}
		if said == transactions {
			for range steps {
			}
			cmd.Process.Kill()
		}
	}
	if cmd.Wait(); said < transactions {
		t.Fatalf("it ended after %d transactions: %s", said, complaint.String())
	}
	return said
}

// contents are those after n transactions and after one more.
func (k *killing) contents(seed uint64, n int) (both [2]uint64, err error) {
	m := pmem.HeapOf(uint64(len(k.image)), pmem.ADR)
	copy(m.Bytes(), k.image)
	p, err := k.alone(m)
	if err != nil {
		return both, err
	}
	run := inTurn(p, k.Workload, seed)
	for i := range n + 1 {
		if i == n {
			both[0] = p.Content()
		}
		if err := run(); err != nil {
			return both, err
		}
	}
	both[1] = p.Content()
	return both, nil
}

// alone opens a copy without mirrors, as a failover does.
func (k *killing) alone(m pmem.Memory) (app.Program, error) {
	r, err := mirror.Open(context.Background(), m, nil, nil, mirror.Options{Threads: k.Threads})
	if err != nil {
		return nil, err
	}
	p, err := k.Open(r)
	if err != nil {
		return nil, err
	}
	return p.(app.Program), nil
}

// survives says what is wrong with a copy after the primary's death; and it must be fit to go on.
func (k *killing) survives(m pmem.Memory, want [2]uint64) error {
	p, err := k.alone(m)
	if err != nil {
		return err
	}
	if err := p.Check(); err != nil {
		return err
	}
	if got := p.Content(); got != want[0] && got != want[1] {
		return errors.New("its content is neither that after the last transaction that committed nor that after one more")
	}
	run := inTurn(p, k.Workload, 1)
	for range 5 {
		if err := run(); err != nil {
			return fmt.Errorf("going on: %w", err)
		}
	}
	return p.Check()
}

// prepared is an application, with default parameters.
func prepared(t *testing.T, a whisper.Application) *Subject {
	t.Helper()
	s, err := NewSubject(a.New(), 0, 1, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestKilledApplications: two processes over shm or tcp, and every application of the suite: the primary is killed at a random moment. With
// WHALE_MIRROR=long, over both and under each strategy.
func TestKilledApplications(t *testing.T) {
	long := os.Getenv("WHALE_MIRROR") == "long"
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	kills := 0
	for i, a := range whisper.Applications {
		s := prepared(t, a)
		for j, provider := range loopback.Providers {
			for n, strategy := range Mirrored {
				if !long && (j != i%len(loopback.Providers) || n != i%len(Mirrored)) {
					continue
				}
				kills++
				k := killing{Subject: s, provider: provider, strategy: strategy}
				if err := k.once(t, rng); err != nil {
					t.Error(err)
				}
			}
		}
	}
	t.Logf("%d kills", kills)
}

// TestKilledApplicationsFinds: what TestKilledApplications looks for can be wrong.
func TestKilledApplicationsFinds(t *testing.T) {
	a, err := whisper.Find("hashmap")
	if err != nil {
		t.Fatal(err)
	}
	s := prepared(t, a)
	for broken, what := range map[string]string{
		"early": "transactions that are told of before they commit",
		"lossy": "writes that do not reach the mirror",
	} {
		t.Run(what, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			k := killing{Subject: s, provider: "shm", strategy: mirror.OrderedBuffering, broken: broken}
			for range 40 {
				if err := k.once(t, rng); err != nil {
					t.Logf("found: %v", err)
					return
				}
			}
			t.Error("not found")
		})
	}
}
