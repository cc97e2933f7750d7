package command

import (
	"whale/internal/resp"
)

// Subcommands of CLIENT that act on connections. What they ask for is carried out by the node.

var clientControl = []*Command{
	clientSub("kill", -3, "2.4.0", "Closes connections of this node", clientKill),
	clientSub("pause", -3, "3.0.0", "Holds back the commands of this node's clients, all or those that write, for so many milliseconds", clientPause),
	clientSub("unpause", 2, "6.2.0", "Ends CLIENT PAUSE", func(c *Ctx) { c.Server.Pause(0, false); c.W.OK() }),
	clientSub("unblock", -3, "5.0.0", "Ends the waiting of a connection of this node", clientUnblock),
	clientSub("reply", 3, "3.2.0", "Switches replies on or off, or passes over the next one", clientReply),
}

// clientKill has the old form, an address, and the new one, filters that have to agree all.
func clientKill(c *Ctx) {
	if len(c.Args) == 3 {
		addr := string(c.Args[2])
		for cl := range c.Server.Clients() {
			if cl.Addr == addr {
				c.kill(cl)
				c.W.OK()
				return
			}
		}
		c.W.Error("ERR No such client")
		return
	}
	var wanted []func(*Client) bool
	skipMe := true
	for i := 2; i < len(c.Args); i += 2 {
		if i+1 == len(c.Args) {
			c.W.Error(errSyntax)
			return
		}
		value := string(c.Args[i+1])
		switch {
		case c.is(i, "id"):
			id, ok := resp.ParseInt(c.Args[i+1])
			if !ok || id < 1 {
				c.W.Error("ERR client-id should be greater than 0")
				return
			}
			wanted = append(wanted, func(cl *Client) bool { return cl.ID == uint64(id) })
		case c.is(i, "type"):
			normal, ok := c.clientType(i + 1)
			if !ok {
				return
			}
			wanted = append(wanted, func(*Client) bool { return normal })
		case c.is(i, "addr"):
			wanted = append(wanted, func(cl *Client) bool { return cl.Addr == value })
		case c.is(i, "laddr"):
			wanted = append(wanted, func(cl *Client) bool { return cl.LAddr == value })
		case c.is(i, "user"):
			if value != defaultUser {
				c.W.Error("ERR No such user '" + cString(c.Args[i+1], len(value)) + "'")
				return
			}
		case c.is(i, "skipme") && (c.is(i+1, "yes") || c.is(i+1, "no")):
			skipMe = c.is(i+1, "yes")
		default:
			c.W.Error(errSyntax)
			return
		}
	}
	n := int64(0)
next:
	for cl := range c.Server.Clients() {
		if cl == c.Client && skipMe {
			continue
		}
		for _, want := range wanted {
			if !want(cl) {
				continue next
			}
		}
		c.kill(cl)
		n++
	}
	c.W.Int(n)
}

// clientType reads a type of connection: here all are normal.
func (c *Ctx) clientType(i int) (normal, ok bool) {
	switch {
	case c.is(i, "normal"):
		return true, true
	case c.is(i, "master") || c.is(i, "replica") || c.is(i, "slave") || c.is(i, "pubsub"):
		return false, true
	}
	c.W.Error("ERR Unknown client type '" + cString(c.Args[i], len(c.Args[i])) + "'")
	return false, false
}

// kill closes a connection; its own one when the reply has left.
func (c *Ctx) kill(cl *Client) {
	if cl == c.Client {
		cl.Quit = true
	} else {
		c.Server.Kill(cl)
	}
}

const longestPause = 1 << 40 // milliseconds

func clientPause(c *Ctx) {
	all := true
	if len(c.Args) > 4 {
		c.W.Error(subSyntax(c))
		return
	}
	if len(c.Args) == 4 {
		switch {
		case c.is(3, "all"):
		case c.is(3, "write"):
			all = false
		default:
			c.W.Error("ERR CLIENT PAUSE mode must be WRITE or ALL")
			return
		}
	}
	ms, ok := resp.ParseInt(c.Args[2])
	switch {
	case !ok || ms > longestPause:
		c.W.Error("ERR timeout is not an integer or out of range")
	case ms < 0:
		c.W.Error("ERR timeout is negative")
	default:
		c.Server.Pause(ms, all)
		c.W.OK()
	}
}

func clientUnblock(c *Ctx) {
	withError := false
	if len(c.Args) > 4 {
		c.W.Error(subSyntax(c))
		return
	}
	if len(c.Args) == 4 {
		switch {
		case c.is(3, "timeout"):
		case c.is(3, "error"):
			withError = true
		default:
			c.W.Error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
			return
		}
	}
	id, ok := c.integer(2)
	if !ok {
		return
	}
	for cl := range c.Server.Clients() {
		if int64(cl.ID) == id && cl.Waiting() {
			c.bit(c.Server.Unblock(cl, withError))
			return
		}
	}
	c.W.Int(0)
}

// clientReply itself is answered only by ON.
func clientReply(c *Ctx) {
	switch {
	case c.is(2, "on"):
		c.Client.reply, c.Client.mute = replyAll, false
		c.W.OK()
	case c.is(2, "off"):
		c.Client.reply, c.Client.mute = replyNone, true
	case c.is(2, "skip"):
		if c.Client.reply == replyAll {
			c.Client.reply = replySkip
		}
		c.Client.mute = true
	default:
		c.W.Error(errSyntax)
	}
}

type replyMode uint8

const (
	replyAll  replyMode = iota
	replySkip           // the next reply is passed over
	replyNone
)

// Begin says whether the reply of the command that begins is to be thrown away. What [Client.Muted] says afterwards
// counts for commands of place [Here], because CLIENT REPLY changes it. The connection's own goroutine.
func (c *Client) Begin() bool {
	c.mute = c.reply != replyAll
	if c.reply == replySkip {
		c.reply = replyAll
	}
	return c.mute
}

// Muted says whether the reply of the command that has run is to be thrown away.
func (c *Client) Muted() bool { return c.mute }

// reset is everything that RESET takes back. Whether the connection has to authenticate again depends on the node.
func reset(c *Ctx) {
	cl := c.Client
	cl.forget()
	cl.reply, cl.mute = replyAll, false
	cl.setName(nil)
	cl.setProto(2)
	cl.setMonitor(false)
	cl.Authed = !c.Server.Params().Locked()
	c.Server.Monitor(cl)
	c.W.Proto = 2
	c.W.Status("RESET")
}
