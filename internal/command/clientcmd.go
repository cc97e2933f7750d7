package command

import (
	"whale/internal/resp"
)

var clientCommands = []*Command{
	{Name: "client", Arity: -2, Place: Here, Run: runSub, Categories: words("@slow"),
		Group: "connection", Since: "2.4.0", Summary: "Commands about connections", Complexity: "Depends on the subcommand",
		Sub: append([]*Command{
			clientSub("id", 2, "5.0.0", "Returns the connection's number", func(c *Ctx) { c.W.Int(int64(c.Client.ID)) }),
			clientSub("getname", 2, "2.6.9", "Returns the connection's name", clientGetName),
			clientSub("setname", 3, "2.6.9", "Names the connection", clientSetName),
			clientSub("setinfo", 4, "7.2.0", "Names the client library and its version", clientSetInfo),
			clientSub("info", 2, "6.2.0", "Describes the connection", clientInfo),
			clientSub("list", -2, "2.4.0", "Describes all connections of this node, or those named", clientList),
			clientSub("no-evict", 3, "7.0.0", "Protects the connection from eviction, which there is none of", clientSwitch),
			clientSub("no-touch", 3, "7.2.0", "Keeps reads from changing the age of keys, which they never do", clientSwitch),
			clientSub("capa", -3, "7.2.0", "Says what the client can do; unknown capabilities are passed over", func(c *Ctx) { c.W.OK() }),
			clientSub("tracking", -3, "6.0.0", "Switches client-side caching, which there is none of, off", clientTracking),
			clientSub("trackinginfo", 2, "6.2.0", "Describes the connection's client-side caching", clientTrackingInfo),
			clientSub("getredir", 2, "6.0.0", "Returns where invalidations go: nowhere", func(c *Ctx) { c.W.Int(-1) }),
			clientSub("help", 2, "5.0.0", "Lists the subcommands", help),
		}, clientControl...)},
}

func clientSub(name string, arity int, since, summary string, run func(*Ctx)) *Command {
	cmd := &Command{Name: "client|" + name, Arity: arity, Place: Here, Run: run,
		Flags: words("noscript loading stale"), Categories: words("@slow @connection"),
		Group: "connection", Since: since, Summary: summary, Complexity: "O(1)"}
	switch name {
	case "list":
		cmd.Complexity = "O(N), N the number of connections"
		fallthrough
	case "no-evict", "kill", "pause", "unpause", "unblock":
		cmd.Flags, cmd.Categories = words("admin noscript loading stale"), words("@admin @slow @dangerous @connection")
	case "help":
		cmd.Flags = words("loading stale")
	}
	if name == "list" || name == "info" {
		cmd.Tips = words("nondeterministic_output")
	}
	return cmd
}

const errClientName = "ERR Client names cannot contain spaces, newlines or special characters."

// validName lets only characters through that do not break the lines of CLIENT LIST.
func validName(name []byte) bool {
	for _, c := range name {
		if c < '!' || c > '~' {
			return false
		}
	}
	return true
}

func clientGetName(c *Ctx) {
	if name := c.Client.Name(); name != "" {
		c.W.BulkString(name)
	} else {
		c.W.Null()
	}
}

// clientSetName with an empty name takes the name away.
func clientSetName(c *Ctx) {
	if !validName(c.Args[2]) {
		c.W.Error(errClientName)
		return
	}
	c.Client.setName(c.Args[2])
	c.W.OK()
}

// clientSetInfo is from Redis 7.2: current client libraries send it, and warn when it is missing.
func clientSetInfo(c *Ctx) {
	attribute := &c.Client.libName
	switch {
	case c.is(2, "lib-name"):
	case c.is(2, "lib-ver"):
		attribute = &c.Client.libVer
	default:
		c.W.Error("ERR Unrecognized option '" + cString(c.Args[2], len(c.Args[2])) + "'")
		return
	}
	if !validName(c.Args[3]) {
		c.W.Error("ERR " + string(asciiLower(c.Args[2])) + " cannot contain spaces, newlines or special characters.")
		return
	}
	c.Client.mu.Lock()
	*attribute = string(c.Args[3])
	c.Client.mu.Unlock()
	c.W.OK()
}

func asciiLower(b []byte) []byte {
	lower := make([]byte, len(b))
	for i, c := range b {
		lower[i] = toLower(c)
	}
	return lower
}

func clientInfo(c *Ctx) {
	line := c.Client.appendInfo(nil, c.Server.Now())
	c.W.Verbatim("txt", string(append(line, '\n')))
}

// clientList knows one type of connection, "normal".
func clientList(c *Ctx) {
	wanted := func(*Client) bool { return true }
	switch {
	case len(c.Args) == 2:
	case len(c.Args) == 4 && c.is(2, "type"):
		normal, ok := c.clientType(3)
		if !ok {
			return
		}
		wanted = func(*Client) bool { return normal }
	case len(c.Args) > 3 && c.is(2, "id"):
		ids := make(map[int64]bool)
		for _, arg := range c.Args[3:] {
			id, ok := resp.ParseInt(arg)
			if !ok {
				c.W.Error("ERR Invalid client ID")
				return
			}
			ids[id] = true
		}
		wanted = func(cl *Client) bool { return ids[int64(cl.ID)] }
	default:
		c.W.Error(errSyntax)
		return
	}
	var text []byte
	now := c.Server.Now()
	for cl := range c.Server.Clients() {
		if wanted(cl) {
			text = append(cl.appendInfo(text, now), '\n')
		}
	}
	c.W.Verbatim("txt", string(text))
}

// clientSwitch accepts what is true here in any position.
func clientSwitch(c *Ctx) {
	if c.is(2, "on") || c.is(2, "off") {
		c.W.OK()
	} else {
		c.W.Error(errSyntax)
	}
}

func clientTracking(c *Ctx) {
	switch {
	case c.is(2, "off") && len(c.Args) == 3:
		c.W.OK()
	case c.is(2, "on"):
		c.W.Error("ERR CLIENT TRACKING ON is not supported: this server sends no invalidations; switch the client-side cache of the client library off")
	default:
		c.W.Error(errSyntax)
	}
}

func clientTrackingInfo(c *Ctx) {
	c.W.Map(3)
	c.W.BulkString("flags")
	c.W.Set(1)
	c.W.BulkString("off")
	c.W.BulkString("redirect")
	c.W.Int(-1)
	c.W.BulkString("prefixes")
	c.W.Array(0)
}
