package command

import (
	"strconv"
	"sync"
	"sync/atomic"
)

// Client is one connection, as commands see it.
type Client struct {
	// Set before the connection's first command, never changed.

	ID      uint64 // unique in this node's life, growing
	Addr    string // the peer's address, as CLIENT LIST shows it
	LAddr   string // the local one
	Created int64  // unix milliseconds

	// Of the connection's own goroutine.

	Proto     int    // 2 or 3. Changed by HELLO, which sets the writer's, too
	Quit      bool   // QUIT was answered: close when the replies have left
	Authed    bool   // needs no password any more
	LastWrite uint64 // seq of this connection's last write, for WAIT

	multi   *Transaction // since MULTI; nil: none is open
	watched []*Watch

	reply replyMode
	mute  bool // the reply of the running command is thrown away

	waiting    atomic.Bool // in WAIT
	monitoring atomic.Bool

	lastAt  atomic.Int64
	lastCmd atomic.Pointer[Command]

	mu                    sync.Mutex // guards what follows: CLIENT LIST reads it from other connections
	name, libName, libVer string
	shownProto            int
}

// Touch notes what the connection does, for CLIENT LIST: its last command and when, in unix milliseconds. Once for each
// batch of commands is enough.
func (c *Client) Touch(cmd *Command, now int64) {
	c.lastCmd.Store(cmd)
	c.lastAt.Store(now)
}

// SetWaiting notes that the connection is in WAIT.
func (c *Client) SetWaiting(on bool) { c.waiting.Store(on) }

// Waiting says whether the connection is in WAIT. Any goroutine.
func (c *Client) Waiting() bool { return c.waiting.Load() }

// Monitoring says whether the connection asked for MONITOR. Any goroutine.
func (c *Client) Monitoring() bool { return c.monitoring.Load() }

func (c *Client) setMonitor(on bool) { c.monitoring.Store(on) }

// flags as CLIENT LIST shows them.
func (c *Client) flags() string {
	f := ""
	if c.Monitoring() {
		f += "O"
	}
	if c.Waiting() {
		f += "b"
	}
	if f == "" {
		return "N"
	}
	return f
}

// Name is the connection's name, empty when it has none.
func (c *Client) Name() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.name
}

func (c *Client) setName(name []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.name = string(name)
}

func (c *Client) setProto(proto int) {
	c.Proto = proto
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shownProto = proto
}

// appendInfo appends the line of CLIENT LIST, without its end. Fields that have no meaning here are left out.
func (c *Client) appendInfo(dst []byte, now int64) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	number := func(field string, v int64) {
		dst = append(dst, field...)
		dst = strconv.AppendInt(dst, v, 10)
	}
	text := func(field, v string) {
		dst = append(dst, field...)
		dst = append(dst, v...)
	}
	number("id=", int64(c.ID))
	text(" addr=", c.Addr)
	text(" laddr=", c.LAddr)
	text(" name=", c.name)
	number(" age=", max(0, now-c.Created)/1000)
	number(" idle=", max(0, now-max(c.Created, c.lastAt.Load()))/1000)
	text(" flags=", c.flags())
	number(" db=", 0)
	if cmd := c.lastCmd.Load(); cmd != nil {
		text(" cmd=", cmd.Name)
	} else {
		text(" cmd=", "NULL")
	}
	text(" user=", "default")
	number(" resp=", int64(max(c.shownProto, 2)))
	text(" lib-name=", c.libName)
	text(" lib-ver=", c.libVer)
	return dst
}
