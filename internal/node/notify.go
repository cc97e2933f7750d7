package node

import (
	"fmt"
	"net"
	"os"
)

// Notifier tells the service manager how this process is: systemd's protocol of datagrams with lines NAME=value
// (sd_notify(3), service type "notify"). A nil Notifier tells nobody.
type Notifier struct{ conn *net.UnixConn }

// NewNotifier connects to the socket that NOTIFY_SOCKET names; nil: there is no such variable, so no service manager.
func NewNotifier() (*Notifier, error) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil, nil
	}
	if name[0] != '/' && name[0] != '@' { // @: Linux's abstract names
		return nil, fmt.Errorf("NOTIFY_SOCKET=%s: expected an absolute path or @name", name)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("NOTIFY_SOCKET=%s: %w", name, err)
	}
	return &Notifier{conn: conn}, nil
}

// Ready says that the node listens. It may still wait for other members before it serves: that is told by [Notifier.State],
// because a unit that is not ready is stopped after a while.
func (n *Notifier) Ready() { n.send("READY=1") }

// Stopping says that the end has begun.
func (n *Notifier) Stopping() { n.send("STOPPING=1") }

// State shows a line in "systemctl status".
func (n *Notifier) State(s State) {
	text := fmt.Sprintf("serving as %s, epoch %d", s.Role, s.Epoch)
	switch {
	case s.Failed != "":
		text = "not serving: " + s.Failed
	case !s.Serving:
		text = "waiting for " + s.Waiting
	}
	n.send("STATUS=" + text)
}

// send may fail: the node's work does not depend on who watches.
func (n *Notifier) send(line string) {
	if n != nil {
		n.conn.Write([]byte(line))
	}
}
