package timing

import "whale/fabric"

// Stalled is how many work requests of a connection were due and could not take effect.
func Stalled(c fabric.Conn) int { return len(c.(*conn).stalled) }
