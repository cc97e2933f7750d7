package command

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// There is one user, "default", who may do everything; requirepass is its password.

var aclCommands = []*Command{container("acl", "server", "6.0.0", "Commands about users; there is only the user default",
	sub(openSub, "acl|whoami", 2, "6.0.0", "Returns the user of the connection", func(c *Ctx) { c.W.BulkString(defaultUser) }),
	sub(adminSub, "acl|users", 2, "6.0.0", "Lists the users", aclUsers),
	sub(adminSub, "acl|list", 2, "6.0.0", "Describes the users", aclList),
	sub(openSub, "acl|cat", -2, "6.0.0", "Lists the categories of commands, or the commands of one", aclCat),
	sub(helpSub, "acl|help", 2, "6.0.0", "Lists the subcommands", help),
)}

// categories in the order of Redis, also those that no command here has.
var categories = words("keyspace read write set sortedset list hash string bitmap hyperloglog geo stream pubsub admin fast slow blocking dangerous connection transaction scripting")

func aclUsers(c *Ctx) {
	c.W.Array(1)
	c.W.BulkString(defaultUser)
}

func aclList(c *Ctx) {
	pass := "nopass"
	if p := c.Server.Params(); p.Locked() {
		sum := sha256.Sum256([]byte(*p.password.Load()))
		pass = "#" + hex.EncodeToString(sum[:])
	}
	c.W.Array(1)
	c.W.BulkString("user " + defaultUser + " on " + pass + " ~* &* +@all")
}

func aclCat(c *Ctx) {
	if len(c.Args) > 3 {
		c.W.Error(subSyntax(c))
		return
	}
	if len(c.Args) == 2 {
		c.W.Array(len(categories))
		for _, cat := range categories {
			c.W.BulkString(cat)
		}
		return
	}
	cat := string(asciiLower(c.Args[2]))
	if !slices.Contains(categories, cat) {
		c.W.Error("ERR Unknown category '" + cString(c.Args[2], len(c.Args[2])) + "'")
		return
	}
	var names []string
	for _, cmd := range all {
		for _, each := range append([]*Command{cmd}, cmd.Sub...) {
			if slices.Contains(each.Categories, "@"+cat) {
				names = append(names, each.Name)
			}
		}
	}
	c.W.Array(len(names))
	for _, name := range names {
		c.W.BulkString(name)
	}
}
