// Package fabrictest is the suite that every provider of package fabric passes. A provider's test is
//
//	func TestConformance(t *testing.T) { fabrictest.Run(t, newPair) }
//
// with a [Factory] that makes two fresh, connected endpoints.
//
// The suite is also where the fine print of the interface is settled. What it holds providers to, beyond the comments of
// package fabric:
//
//   - A connection has a QueueDepth of at least 2, a RecvDepth of 4, a MaxSend of 64.
//   - A completion that was not polled still counts against QueueDepth (RecvDepth for receives), so that both queues are
//     bounded: an idle connection takes exactly QueueDepth signaled operations before the first Poll.
//   - A flag on a kind that has no use for it is ErrOp: WriteThrough and NonTemporal are for Write and Write8, one of them at a time; Notify for Write, Write8, Send; Inline
//     for Write, Write8, Send; a Recv takes Signaled alone. Signaled and Fenced go with every other kind.
//   - Flush needs a placement of Visible or Durable and a selectivity of Range or Region, else ErrOp. A visible Flush
//     needs a key with any right; a durable one RemoteFlush. A Fence has one of the placements, or 0, else ErrOp.
//   - The completion of a durable Fence, unlike that of a visible one, says that all before it has landed.
//   - Len means nothing to Write8, CompareSwap, FetchAdd and Fence; Off and Len nothing to a Flush of a Region.
//   - An operation of length zero on a good key succeeds and touches nothing.
//   - After the first error of a connection each operation, signaled or not, and each posted Recv gets a completion with
//     ErrFlushed; so do those posted later. Nothing posted behind the failed operation lands. Whether the other side
//     notices before Close is the provider's affair.
//   - A Send without a posted Recv waits, or is buffered; its completion comes at the latest when it was received.
//   - A message longer than the buffer: the Recv ends with ErrTooLong, and no byte outside the buffer changes. The Send
//     ends with nil (it was buffered) or with ErrTooLong.
//   - When a connection is lost or closed by the peer, posted receives end with ErrBroken or ErrFlushed without further
//     ado, as do operations posted later, and the doorbell rings.
//   - A ring before Arm makes Arm false once. A burst of rings may count as one.
package fabrictest

import (
	"fmt"
	"runtime"
	"slices"
	"sort"
	"testing"
	"time"

	"whale/fabric"
	"whale/pmem"
)

// Factory makes a fresh pair; it registers its own clean-up with t.Cleanup. It takes a testing.TB, and not a *testing.T,
// so that [Failures] can record what a broken provider fails.
type Factory func(t testing.TB) *Pair

// Pair is two endpoints, A and B, with one connection between them.
type Pair struct {
	A, B fabric.Endpoint
	// AB is A's end of the connection and BA is B's.
	AB, BA fabric.Conn
	// NewMemory makes size bytes that e can register with every right. The memory lives until the test has ended.
	NewMemory func(t testing.TB, e fabric.Endpoint, size uint64) pmem.Memory
	// Connect lets A dial B, which accepts with answer. Real providers use [DialAccept].
	Connect func(hello []byte, answer func([]byte) ([]byte, error)) (a, b fabric.Conn, reply []byte, err error)
	// Progress lets something happen on a simulated provider, where nothing does by itself; the smaller the step, the more
	// the suite sees. Nil: the provider is real, works by itself, and both ends may be used at the same time.
	Progress func()
	// Kill makes B disappear without a word, as a killed process does. B and BA are not used afterwards. Nil: not offered,
	// and the check is skipped.
	Kill func()
	// Patience is how long something that must happen may take. Default: 10 s (times WHALE_TEST_SLOW), or 20,000 calls of
	// Progress.
	Patience time.Duration
}

// Run holds the provider to every check.
func Run(t *testing.T, f Factory) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, f) })
	}
}

// Failures runs the checks of these names, or every check, as Run does, but returns what failed, by the name of the check,
// instead of failing t. A test of the suite itself, or of a checker's own broken variant, shows with it what is caught.
func Failures(t testing.TB, f Factory, names ...string) map[string]string {
	out := map[string]string{}
	for _, c := range checks {
		if len(names) > 0 && !slices.Contains(names, c.name) {
			continue
		}
		if msg, failed := record(t, func(t testing.TB) { c.run(t, f) }); failed {
			out[c.name] = msg
		}
	}
	return out
}

// Names lists the checks, sorted.
func Names() []string {
	var out []string
	for _, c := range checks {
		out = append(out, c.name)
	}
	sort.Strings(out)
	return out
}

type check struct {
	name string
	do   func(*rig)
}

func (c check) run(t testing.TB, f Factory) {
	r := newRig(t, f(t))
	c.do(r)
	r.checkGuards()
}

// checks is filled by the files of this package, one for each topic.
var checks []check

func register(name string, do func(*rig)) { checks = append(checks, check{name, do}) }

// recorder is a testing.TB that notes failures.
type recorder struct {
	testing.TB // the real one: temporary directories
	msg        string
	failed     bool
	skipped    bool
	cleanup    []func()
}

func record(t testing.TB, f func(testing.TB)) (msg string, failed bool) {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() { // FailNow and SkipNow end the goroutine, as in package testing
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				r.Errorf("panic: %v", p)
			}
		}()
		defer func() {
			for i := len(r.cleanup) - 1; i >= 0; i-- {
				r.cleanup[i]()
			}
		}()
		f(r)
	}()
	<-done
	return r.msg, r.failed
}

func (r *recorder) Errorf(format string, args ...any) {
	if !r.failed {
		r.msg = fmt.Sprintf(format, args...)
	}
	r.failed = true
}
func (r *recorder) Error(args ...any)                 { r.Errorf("%s", fmt.Sprint(args...)) }
func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); runtime.Goexit() }
func (r *recorder) Fatal(args ...any)                 { r.Error(args...); runtime.Goexit() }
func (r *recorder) FailNow()                          { r.Errorf("failed"); runtime.Goexit() }
func (r *recorder) Fail()                             { r.Errorf("failed") }
func (r *recorder) Failed() bool                      { return r.failed }
func (r *recorder) SkipNow()                          { r.skipped = true; runtime.Goexit() }
func (r *recorder) Skip(...any)                       { r.SkipNow() }
func (r *recorder) Skipf(string, ...any)              { r.SkipNow() }
func (r *recorder) Skipped() bool                     { return r.skipped }
func (r *recorder) Log(...any)                        {}
func (r *recorder) Logf(string, ...any)               {}
func (r *recorder) Helper()                           {}
func (r *recorder) Cleanup(f func())                  { r.cleanup = append(r.cleanup, f) }
