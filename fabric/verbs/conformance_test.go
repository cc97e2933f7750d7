//go:build verbs && cgo && linux

package verbs

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"whale/fabric"
	"whale/fabric/fabrictest"
	"whale/pmem"
)

// These tests need RDMA devices: one, or better two that reach each other, each by its name, its IP address, and the network
// namespace that its interface is in, if not this one:
//
//	WHALE_VERBS_A=rxa,10.0.0.1,a WHALE_VERBS_B=rxb,10.0.0.2,b go test -tags verbs ./fabric/verbs
//
// Moving between namespaces needs root.
const (
	envA = "WHALE_VERBS_A"
	envB = "WHALE_VERBS_B"
)

// place is where an endpoint of a test is.
type place struct{ device, addr, netns string }

// places are where the tests' two endpoints are. Without any the test is skipped.
func places(t testing.TB) (a, b place) {
	t.Helper()
	text := os.Getenv(envA)
	if text == "" {
		names, err := deviceNames()
		t.Skipf("%s is not set: it names an RDMA device and its address, for instance rxe0,10.0.0.1 (devices here: %v %v)", envA, names, err)
	}
	a = parsePlace(t, envA, text)
	if b = a; os.Getenv(envB) != "" {
		b = parsePlace(t, envB, os.Getenv(envB))
	}
	return a, b
}

func parsePlace(t testing.TB, name, text string) place {
	t.Helper()
	parts := append(strings.Split(text, ","), "", "")
	if parts[0] == "" || parts[1] == "" || len(parts) > 5 {
		t.Fatalf("%s=%s: expected DEVICE,ADDRESS[,NAMESPACE]", name, text)
	}
	return place{parts[0], parts[1], parts[2]}
}

// inside runs f in the network namespace: sockets that it makes stay there.
func (p place) inside(f func() error) error {
	if p.netns == "" {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	there, err := os.Open("/run/netns/" + p.netns)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering namespace %s: %w", p.netns, err)
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err) // the thread would go on in the wrong place
		}
	}()
	return f()
}

var testSecret = []byte("the secret of these tests, 32 byt")

// endpoint is one that is closed when the test ends.
func endpoint(t testing.TB, p place, o Options, without uint32) *Endpoint {
	t.Helper()
	o.Device, o.Listen = p.device, net.JoinHostPort(p.addr, "0")
	if o.Secret == nil {
		o.Secret = testSecret
	}
	var e *Endpoint
	if err := p.inside(func() (err error) { e, err = open(o, without); return err }); err != nil {
		t.Fatal(err)
	}
	if dial := e.dialer; p.netns != "" {
		e.dialer = func(ctx context.Context, addr string) (c net.Conn, err error) {
			err = p.inside(func() error { c, err = dial(ctx, addr); return err })
			return c, err
		}
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

// pair is two endpoints of this process, over memory that memory makes.
func pair(t testing.TB, o Options, without uint32, memory func(t testing.TB, size uint64) pmem.Memory) *fabrictest.Pair {
	pa, pb := places(t)
	p := &fabrictest.Pair{A: endpoint(t, pa, o, without), B: endpoint(t, pb, o, without)}
	p.NewMemory = func(t testing.TB, _ fabric.Endpoint, size uint64) pmem.Memory { return memory(t, size) }
	p.Connect = func(hello []byte, answer func([]byte) ([]byte, error)) (a, b fabric.Conn, reply []byte, err error) {
		return fabrictest.DialAccept(p.A, p.B, hello, answer)
	}
	var err error
	if p.AB, p.BA, _, err = p.Connect(nil, func([]byte) ([]byte, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	p.Kill = func() { // as the kernel does it for a process that ends
		b := p.BA.(*conn)
		b.mu.Lock()
		b.q.end()
		b.severed = true
		b.mu.Unlock()
		b.side.Close()
	}
	return p
}

// anonymous is mapped memory until the test has ended.
func anonymous(t testing.TB, size uint64) pmem.Memory {
	t.Helper()
	m, err := pmem.Anonymous(size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// processors: the suite's two sides spin, and sockets are looked at when a processor is idle.
func processors(t testing.TB) {
	before := runtime.GOMAXPROCS(max(4, runtime.NumCPU()))
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

func TestConformance(t *testing.T) {
	processors(t)
	fabrictest.Run(t, func(t testing.TB) *fabrictest.Pair { return pair(t, Options{}, 0, anonymous) })
}
