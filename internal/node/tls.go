package node

import (
	"crypto/tls"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"whale/internal/tlsconn"
)

const handshakeLimit = 10 * time.Second // from a client's connection to the end of its handshake

// shakers are the handshakes that run, each on a goroutine of its own, which may wait. Behind it the connection belongs to
// its reactor like any other, and nothing waits.
type shakers struct {
	mu     sync.Mutex
	count  int
	closed bool
}

// begin runs the handshake of c beside everything else, and hands c to its reactor.
func (h *shakers) begin(c *conn, config *tls.Config, r *reactor) {
	h.mu.Lock()
	h.count++
	h.mu.Unlock()
	go func() {
		s, err := tlsconn.Server(c.fd, config, handshakeLimit)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.count--
		if err != nil || h.closed {
			unix.Close(c.fd)
			if err != nil {
				r.log.Debug("TLS with a client", "client", c.client.Addr, "error", err)
			}
			return
		}
		c.secure = s
		r.server.remember(c)
		r.mail.put(message{client: c})
	}()
}

// running is how many there are.
func (h *shakers) running() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

// close: reactors take no more connections.
func (h *shakers) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
}

// intake is memory to read to what is still encrypted.
func (r *reactor) intake() []byte {
	if r.scratch == nil {
		r.scratch = make([]byte, tlsconn.Scratch)
	}
	return r.scratch
}
