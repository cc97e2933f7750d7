package mirror_test

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
	"strings"
	"syscall"
	"testing"
	"time"

	"whale/fabric"
	"whale/fabric/verbs"
	"whale/mirror"
	"whale/pmem"
)

// What a machine with RDMA has, for a test over it. The mirror is a process of its own: `whale mirror serve`.
//
//	WHALE_MIRROR_SERVE=whale mirror serve --fabric verbs --listen 10.0.0.2:7400 --insecure    without the file and the secret
//	WHALE_MIRROR_HERE=10.0.0.1:0,/dev/dax0.0      the primary: where it listens, its memory, which is overwritten
//	WHALE_MIRROR_THERE=/dev/dax1.0                the mirror's memory, which is overwritten
//
// The memory may be files, too. The test runs where both are reached.
const (
	serveEnv = "WHALE_MIRROR_SERVE"
	hereEnv  = "WHALE_MIRROR_HERE"
	thereEnv = "WHALE_MIRROR_THERE"
)

// overVerbs is the primary's endpoint.
func overVerbs(string) (fabric.Endpoint, error) {
	listen, _, _ := strings.Cut(os.Getenv(hereEnv), ",")
	return verbs.Open(verbs.Options{Listen: listen, Secret: testSecret})
}

// TestServedOverRDMA: a region on persistent memory and its mirror, which `whale mirror serve` offers over RDMA. What threads commit
// is on the mirror byte by byte; what a primary had committed that is killed is there, too; and the copy is opened in its place.
func TestServedOverRDMA(t *testing.T) {
	if os.Getenv(serveEnv) == "" {
		t.Skipf("%s is not set: the command that serves a mirror over RDMA, see served_test.go", serveEnv)
	}
	_, here, ok := strings.Cut(os.Getenv(hereEnv), ",")
	there := os.Getenv(thereEnv)
	if !ok || there == "" {
		t.Fatalf("%s=%q, %s=%q: want LISTEN,MEMORY and MEMORY", hereEnv, os.Getenv(hereEnv), thereEnv, there)
	}
	for _, c := range []struct {
		strategy mirror.Strategy
		flags    []string
	}{
		{mirror.RemoteCommit, nil},
		{mirror.OrderedBuffering, nil},
		{mirror.DDIODisabled, []string{"--direct-write"}},
	} {
		t.Run(c.strategy.String(), func(t *testing.T) {
			t.Run("bytes", func(t *testing.T) { sameBytes(t, c.strategy, here, there, c.flags) })
			t.Run("kill and open the copy", func(t *testing.T) { failOver(t, c.strategy, here, there, c.flags) })
		})
	}
	t.Run("sm-dd, refused", func(t *testing.T) {
		a, b := blank(t, here, childSize), blank(t, there, childSize)
		if b.Domain() != pmem.ADR {
			t.Skipf("the mirror's memory is %v: what is visible there is durable", b.Domain())
		}
		addr, _ := serveProcess(t, there, childSize, nil)
		_, err := mirror.Open(t.Context(), a, rdma(t), []string{addr}, mirror.Options{Strategy: mirror.DDIODisabled})
		if !errors.Is(err, fabric.ErrUnsupported) || !strings.Contains(err.Error(), "switch off DDIO") {
			t.Errorf("a mirror that does not declare direct writes, under sm-dd: %v", err)
		}
	})
}

func sameBytes(t *testing.T, s mirror.Strategy, here, there string, flags []string) {
	const threads, size = 2, 1 << 18
	a, b := blank(t, here, size), blank(t, there, size)
	addr, stop := serveProcess(t, there, size, flags)
	r, err := mirror.Open(t.Context(), a, rdma(t), []string{addr}, mirror.Options{Strategy: s, Threads: threads, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, threads)
	for n := range threads {
		go func() { errs <- writeSome(r, uint64(n)*size/threads, size/threads) }()
	}
	for range threads {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if !bytes.Equal(region(b.Bytes()), r.Bytes()) {
		t.Error("the mirror differs")
	}
	if bytes.Equal(region(b.Bytes()), make([]byte, size)) {
		t.Error("nothing was written")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	stop()
}

func failOver(t *testing.T, s mirror.Strategy, here, there string, flags []string) {
	blank(t, here, childSize)
	b := blank(t, there, childSize)
	addr, stop := serveProcess(t, there, childSize, flags)
	rng := rand.New(rand.NewPCG(7, uint64(s)))
	last := uint64(0)
	for range 2 {
		last = killAndCheck(t, rng, last, b, "verbs", s.String(), here, addr)
	}
	before, err := mirror.Inspect(b)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	r, err := mirror.Open(t.Context(), b, nil, nil, mirror.Options{})
	if err != nil {
		t.Fatalf("the copy as the primary's: %v", err)
	}
	put(t, r, 8, 99)
	if head := r.Load64(0); head < last || r.Load64(8) != 99 {
		t.Errorf("the copy's head is %d, and %d was committed", head, last)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err := mirror.Inspect(b); err != nil || l.State.Condition != mirror.Clean || l.State.Generation <= before.State.Generation || l.ID != before.ID {
		t.Errorf("the copy's label was %v, and is %v, %v", before, l, err)
	}
	t.Logf("%d transactions", last)
}

func rdma(t *testing.T) fabric.Endpoint {
	t.Helper()
	e, err := overVerbs("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// blank is a memory with a region of size bytes, zero: a device keeps what was in it.
func blank(t *testing.T, path string, size uint64) *pmem.File {
	t.Helper()
	m := mapped(t, path, size, pmem.None)
	clear(m.Bytes())
	m.Persist(0, uint64(len(m.Bytes())))
	m.Fence()
	return m
}

// serveProcess runs the command that serves until the test ends or stop is called, which sees that it ends well.
func serveProcess(t *testing.T, path string, size uint64, flags []string) (addr string, stop func()) {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, fmt.Appendf(nil, "%x\n", testSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append(strings.Fields(os.Getenv(serveEnv)), flags...)
	args = append(args, "--file", path, "--size", fmt.Sprint(mirror.HeadSize+size), "--secret", secret)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := cmd.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, &said)
		}
	}
	t.Cleanup(stop)
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("%s ended: %v\n%s", strings.Join(args, " "), cmd.Wait(), &said)
	}
	_, addr, ok := strings.Cut(lines.Text(), ", at ")
	if !ok {
		t.Fatalf("it says %q and no address", lines.Text())
	}
	return addr, stop
}
