package tcp

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"whale/fabric"
	"whale/fabric/fabrictest"
)

// cutter stands between two endpoints and ends every socket after so many bytes of one direction.
type cutter struct {
	to     string
	listen net.Listener
	budget func() int64
	tasks  sync.WaitGroup
}

func newCutter(t testing.TB, to string, budget func() int64) *cutter {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{to: to, listen: l, budget: budget}
	c.tasks.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			pass := func(to, from net.Conn) {
				io.CopyN(to, from, c.budget())
				to.Close()
				from.Close()
			}
			c.tasks.Go(func() { pass(near, far) })
			c.tasks.Go(func() { pass(far, near) })
		}
	})
	t.Cleanup(func() { l.Close(); c.tasks.Wait() })
	return c
}

// elsewhere is an endpoint that is reached through a cutter.
type elsewhere struct {
	*Endpoint
	addr string
}

func (e elsewhere) Addr() string { return e.addr }

// TestCutConnections: wherever a connection is cut, each operation ends exactly once, in order, a success means that it
// has landed, and what landed is a prefix of what was posted.
func TestCutConnections(t *testing.T) {
	const words, batch = 4096, 16
	rng := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	budget := func() int64 { mu.Lock(); defer mu.Unlock(); return 300 + int64(rng.IntN(1<<rng.IntN(23))) }
	w := wire(t, 8*words, Options{})
	through := elsewhere{w.b, newCutter(t, w.b.Addr(), budget).listen.Addr().String()}
	cuts := 0
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	for round := range uint64(rounds) {
		ca, cb, _, err := fabrictest.DialAccept(w.a, through, nil, func([]byte) ([]byte, error) { return nil, nil })
		if err != nil {
			cuts++ // in the handshake
			continue
		}
		a, b := ca.(*conn), cb.(*conn)
		for i := range words {
			binary.LittleEndian.PutUint64(w.from.Bytes()[8*i:], round<<32|uint64(i))
		}
		posted, ended, good := uint64(0), uint64(0), uint64(0)
		broken := false
		var done [32]fabric.Completion
		until(t, "all end", func() bool {
			if posted < words && !broken {
				ops := make([]fabric.Op, 0, batch)
				for i := posted; i < min(posted+batch, words); i++ {
					op := w.write(8*i, 8, fabric.Signaled|fabric.Notify)
					op.ID = i
					ops = append(ops, op)
				}
				posted += uint64(a.Post(ops))
			}
			for _, c := range done[:a.Poll(done[:])] {
				switch {
				case c.ID != ended || c.Kind != fabric.Write:
					t.Fatalf("completion of %d, expected %d", c.ID, ended)
				case c.Err == nil && broken:
					t.Fatalf("operation %d ended well behind an error", c.ID)
				case c.Err == nil:
					good++
				default:
					broken = true
				}
				ended++
			}
			b.Poll(done[:])
			return ended == posted && (broken || posted == words)
		})
		if broken {
			cuts++
			b.Poll(done[:])
			if err := b.Close(); err != nil { // what was on the way may land until then
				t.Logf("round %d: %v", round, err)
			}
		}
		gap := false
		for i := range uint64(words) {
			landed := w.to.Load64(8*i) == round<<32|i
			switch {
			case i < good && !landed:
				t.Fatalf("round %d: word %d of %d that ended well is %#x", round, i, good, w.to.Load64(8*i))
			case landed && (gap || i >= posted):
				t.Fatalf("round %d: word %d landed, one before it did not", round, i)
			}
			gap = gap || !landed
		}
		a.Close()
		b.Close()
	}
	if cuts < rounds/4 {
		t.Errorf("only %d of %d connections were cut: this shows nothing", cuts, rounds)
	}
	t.Logf("%d of %d connections were cut", cuts, rounds)
}
