# SPDX-License-Identifier: BSD-3-Clause
"""The coresnap command as another user: python as_user.py UID ARGUMENT…

The user may have no right to run this interpreter (a venv below /root), so the change happens
after everything is loaded.
"""

import ctypes
import os
import sys

import coresnap_cli.main

PR_SET_DUMPABLE = 4

uid = int(sys.argv[1])
sys.argv[1:2] = []
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
coresnap_cli.main.main()
