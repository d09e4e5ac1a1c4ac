"""Processes that may do less than the one that runs the tests: for classrooms, where nobody is root."""

import ctypes
import os
import sys

_OVERRIDE, _READ = 1, 2  # Linux: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
_BOUNDING_DROP, _KEEP = 24, 8  # prctl: PR_CAPBSET_DROP and PR_SET_KEEPCAPS


def without_root_rights():
    """Let permissions bind the program that is executed next, also where it belongs to root."""
    if os.getuid() == 0 and ctypes.CDLL(None, use_errno=True).prctl(_BOUNDING_DROP, _OVERRIDE, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "the rights of root cannot be dropped")


def become(user):
    """Become another user, who may read everything (else Python in a home folder could import no more), but not write it."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_KEEP, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    rights = (ctypes.c_uint32 * 6)(1 << _READ, 1 << _READ, 0, 0, 0, 0)
    if libc.capset(header, rights):
        raise OSError(ctypes.get_errno(), "capset")


def can_become_another():
    """Whether this process may become another user."""
    return sys.platform == "linux" and os.getuid() == 0
