"""Characters that cannot be seen, and letters that look like others: what a reader takes a text for.

An LM reads letters of other scripts, and letters with marks, as those that they look like.
"""

from __future__ import annotations

# Characters that are invisible or only modify others, for a set of a regular expression: controls, formats, fillers,
# marks without a width of their own, everything that Unicode 17 calls ignorable. Line breaks are not among them.
INVISIBLE = (
    "\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf"
    "\u05c1\u05c2\u05c4\u05c5\u05c7-\u05c9\u0600-\u0605\u0610-\u061a\u061c\u064b-\u065f\u0670"
    "\u06d6-\u06dd\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u070f\u0711\u0730-\u074a\u07a6-\u07b0"
    "\u07eb-\u07f3\u07fd\u0816-\u0819\u081b-\u0823\u0825-\u0827\u0829-\u082d\u0859-\u085b"
    "\u0890\u0891\u0897-\u089f\u08ca-\u0902\u093a\u093c\u0941-\u0948\u094d\u0951-\u0957\u0962\u0963"
    "\u0981\u09bc\u09c1-\u09c4\u09cd\u09e2\u09e3\u09fe-\u0a02\u0a3c\u0a41-\u0a51\u0a70\u0a71\u0a75"
    "\u0a81\u0a82\u0abc\u0ac1-\u0ac8\u0acd\u0ae2\u0ae3\u0afa-\u0b01\u0b3c\u0b3f\u0b41-\u0b44\u0b4d"
    "\u0b53-\u0b56\u0b62\u0b63\u0b82\u0bc0\u0bcd\u0c00\u0c04\u0c3c\u0c3e-\u0c40\u0c46-\u0c4d"
    "\u0c55\u0c56\u0c62\u0c63\u0c81\u0cbc\u0cbf\u0cc6\u0ccc\u0ccd\u0ce2\u0ce3\u0d00\u0d01"
    "\u0d3b\u0d3c\u0d41-\u0d44\u0d4d\u0d62\u0d63\u0d81\u0dca\u0dd2-\u0dd6\u0e31\u0e34-\u0e3a"
    "\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u0f18\u0f19\u0f35\u0f37\u0f39\u0f71-\u0f7e"
    "\u0f80-\u0f84\u0f86\u0f87\u0f8d-\u0fbc\u0fc6\u102d-\u1030\u1032-\u1037\u1039\u103a\u103d\u103e"
    "\u1058\u1059\u105e-\u1060\u1071-\u1074\u1082\u1085\u1086\u108d\u109d\u115f\u1160\u135d-\u135f"
    "\u1712-\u1714\u1732\u1733\u1752\u1753\u1772\u1773\u17b4\u17b5\u17b7-\u17bd\u17c6\u17c9-\u17d3"
    "\u17dd\u180b-\u180f\u1885\u1886\u18a9\u1920-\u1922\u1927\u1928\u1932\u1939-\u193b\u1a17\u1a18"
    "\u1a1b\u1a56\u1a58-\u1a60\u1a62\u1a65-\u1a6c\u1a73-\u1a7f\u1ab0-\u1b03\u1b34\u1b36-\u1b3a"
    "\u1b3c\u1b42\u1b6b-\u1b73\u1b80\u1b81\u1ba2-\u1ba5\u1ba8\u1ba9\u1bab-\u1bad\u1be6\u1be8\u1be9"
    "\u1bed\u1bef-\u1bf1\u1c2c-\u1c33\u1c36\u1c37\u1cd0-\u1cd2\u1cd4-\u1ce0\u1ce2-\u1ce8\u1ced"
    "\u1cf4\u1cf8\u1cf9\u1dc0-\u1dff\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20d0-\u20ff\u2800"
    "\u2cef-\u2cf1\u2d7f\u2de0-\u2dff\u302a-\u302d\u3099\u309a\u3164\ua66f-\ua672\ua674-\ua67d"
    "\ua69e\ua69f\ua6f0\ua6f1\ua802\ua806\ua80b\ua825\ua826\ua82c\ua8c4\ua8c5\ua8e0-\ua8f1\ua8ff"
    "\ua926-\ua92d\ua947-\ua951\ua980-\ua982\ua9b3\ua9b6-\ua9b9\ua9bc\ua9bd\ua9e5\uaa29-\uaa2e"
    "\uaa31\uaa32\uaa35\uaa36\uaa43\uaa4c\uaa7c\uaab0\uaab2-\uaab4\uaab7\uaab8\uaabe\uaabf\uaac1"
    "\uaaec\uaaed\uaaf6\uabe5\uabe8\uabed\ud800-\udfff\ufb1e\ufe00-\ufe0f\ufe20-\ufe2f\ufeff\uffa0"
    "\ufff0-\ufffb\U000101fd\U000102e0\U00010376-\U0001037a\U00010a01-\U00010a06"
    "\U00010a0c-\U00010a0f\U00010a38-\U00010a3f\U00010ae5\U00010ae6\U00010d24-\U00010d27"
    "\U00010d69-\U00010d6d\U00010eab\U00010eac\U00010ecb-\U00010ecf\U00010ef0-\U00010eff"
    "\U00010f46-\U00010f50\U00010f82-\U00010f85\U00011001\U00011038-\U00011046\U00011070"
    "\U00011073\U00011074\U0001107f-\U00011081\U000110b3-\U000110b6\U000110b9\U000110ba\U000110bd"
    "\U000110c2\U000110cd\U00011100-\U00011102\U00011127-\U0001112b\U0001112d-\U00011134\U00011173"
    "\U00011180\U00011181\U000111b6-\U000111be\U000111c9-\U000111cc\U000111cf\U0001122f-\U00011231"
    "\U00011234\U00011236\U00011237\U0001123e\U00011241\U000112df\U000112e3-\U000112ea"
    "\U00011300\U00011301\U0001133b\U0001133c\U00011340\U00011366-\U00011374\U000113bb-\U000113c0"
    "\U000113ce\U000113d0\U000113d2\U000113e1\U000113e2\U00011438-\U0001143f\U00011442-\U00011444"
    "\U00011446\U0001145e\U000114b3-\U000114b8\U000114ba\U000114bf\U000114c0\U000114c2\U000114c3"
    "\U000115b2-\U000115b5\U000115bc\U000115bd\U000115bf\U000115c0\U000115dc\U000115dd"
    "\U00011633-\U0001163a\U0001163d\U0001163f\U00011640\U000116ab\U000116ad\U000116b0-\U000116b5"
    "\U000116b7\U0001171d-\U0001171f\U00011722-\U00011725\U00011727-\U0001172b\U0001182f-\U00011837"
    "\U00011839\U0001183a\U0001193b\U0001193c\U0001193e\U00011943\U000119d4-\U000119db\U000119e0"
    "\U00011a01-\U00011a0a\U00011a33-\U00011a38\U00011a3b-\U00011a3e\U00011a47\U00011a51-\U00011a56"
    "\U00011a59-\U00011a5b\U00011a8a-\U00011a96\U00011a98\U00011a99\U00011b60\U00011b62-\U00011b64"
    "\U00011b66\U00011c30-\U00011c3d\U00011c3f\U00011c92-\U00011ca7\U00011caa-\U00011cb0"
    "\U00011cb2\U00011cb3\U00011cb5\U00011cb6\U00011d31-\U00011d45\U00011d47\U00011d90\U00011d91"
    "\U00011d95\U00011d97\U00011df0\U00011ef3\U00011ef4\U00011f00\U00011f01\U00011f36-\U00011f3a"
    "\U00011f40\U00011f42\U00011f5a\U00013430-\U00013440\U00013447-\U00013455\U0001611e-\U00016129"
    "\U0001612d-\U0001612f\U00016af0-\U00016af4\U00016b30-\U00016b36\U00016f4f\U00016f8f-\U00016f92"
    "\U00016fe4\U0001bc9d\U0001bc9e\U0001bca0-\U0001bca3\U0001cf00-\U0001cf46\U0001d127\U0001d128"
    "\U0001d159\U0001d167-\U0001d169\U0001d173-\U0001d182\U0001d185-\U0001d18b\U0001d1aa-\U0001d1ad"
    "\U0001d242-\U0001d244\U0001d25b\U0001d25c\U0001da00-\U0001da36\U0001da3b-\U0001da6c\U0001da75"
    "\U0001da84\U0001da9b-\U0001daaf\U0001e000-\U0001e02a\U0001e08f\U0001e130-\U0001e136\U0001e2ae"
    "\U0001e2ec-\U0001e2ef\U0001e4ec-\U0001e4ef\U0001e5ee\U0001e5ef\U0001e6e3\U0001e6e6"
    "\U0001e6ee\U0001e6ef\U0001e6f5\U0001e8d0-\U0001e8d6\U0001e944-\U0001e94a\U000e0000-\U000e0fff"
)

_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# By script: the letters, and what they look like. Compatibility characters (full width, bold, in circles) are not
# here: normalizing makes letters of them.
_LETTERS = (
    # Cyrillic and Greek.
    (
        "\u0430\u0432\u0441\u0435\u04bb\u043d\u0456\u0457\u0458\u043a\u04cf\u043c\u043e\u0440\u0455\u0442\u0445\u0501"
        "\u051b\u0461\u0443\u0410\u0412\u0421\u0415\u041d\u0406\u0408\u041a\u041c\u041e\u0420\u0405\u0422\u0425\u0423"
        "\u051d\u051c\u0475\u0474\u04af\u04ae\u04bd\u051a\u050c\u04c0\u0433",
        "abcehhiijklmopstxdqwyABCEHIJKMOPSTXYwWvVyYeQGIr",
    ),
    (
        "\u03b1\u03f2\u03b5\u03b9\u03ba\u03bf\u03c1\u03c4\u03c5\u03bd\u0391\u0392\u0395\u0397\u0399\u039a\u039c\u039d\u039f"
        "\u03a1\u03a4\u03a7\u03a5\u0396\u03f9\u03b3\u03b7\u03c3",
        "aceikoptuvABEHIKMNOPTXYZCyno",
    ),
    # Armenian, Lisu, Canadian syllabics.
    (
        "\u0578\u0585\u057d\u0570\u0566\u0563\u0581\u054f\u0555\u054d\u053c\u0548",
        "nouhqqgSOULn",
    ),
    (
        "\ua4d0\ua4d1\ua4d2\ua4d3\ua4d4\ua4d6\ua4d7\ua4d9\ua4da\ua4dc\ua4dd\ua4df\ua4e0\ua4e1\ua4e2\ua4e3\ua4e6\ua4e7"
        "\ua4ea\ua4eb\ua4ec\ua4ee\ua4f0\ua4f2\ua4f3\ua4f4",
        "BPdDTGKJCZFMNLSRVHWXYAEIOU",
    ),
    (
        "\u144c\u142f\u146d\u148d\u15ea\u15de\u15f7\u157c\u14aa\u15f0\u15b4\u1587\u1455\u15e9\u166d\u144e\u15ef\u1515"
        "\u15f4",
        "UVPJDDBHLMFRCAXNWSE",
    ),
    # Cherokee and its small letters, Coptic and its small letters.
    (
        "\u13a0\u13a1\u13a2\u13a5\u13a9\u13aa\u13ab\u13ac\u13b3\u13b7\u13bb\u13bd\u13c0\u13c2\u13c3\u13cf\u13d2\u13d4"
        "\u13d5\u13d9\u13da\u13de\u13df\u13e2\u13e6\u13e7\u13f3\u13f4",
        "DRTiYAJEWMHYGhZbRWSVSLCPKdGB",
    ),
    (
        "\uab70\uab71\uab72\uab75\uab79\uab7a\uab7b\uab7c\uab83\uab87\uab8b\uab8d\uab90\uab93\uab9f\uaba2\uaba4\uaba5"
        "\uaba9\uabaa\uabae\uabaf\uabb2\uabb6\uabb7\uab81",
        "drtiyajewmhygzbrwsvslcpkdr",
    ),
    (
        "\u2c80\u2c82\u2c88\u2c8e\u2c92\u2c94\u2c98\u2c9a\u2c9e\u2ca2\u2ca4\u2ca6\u2ca8\u2cac",
        "ABEHIKMNOPCTYX",
    ),
    (
        "\u2c81\u2c83\u2c89\u2c8f\u2c93\u2c95\u2c99\u2c9b\u2c9f\u2ca3\u2ca5\u2ca7\u2ca9\u2cad",
        "abehikmnopctyx",
    ),
    # Small capitals and other letters of phonetics.
    (
        "\u1d00\u0299\u1d04\u1d05\u1d07\ua730\u0262\u029c\u026a\u1d0a\u1d0b\u029f\u1d0d\u0274\u1d0f\u1d18\u0280\ua731"
        "\u1d1b\u1d1c\u1d20\u1d21\u028f\u1d22\u0251\u0261\u0131\u0269\u0237\u028b\ua78f",
        "abcdefghijklmnoprstuvwyzagiijv.",
    ),
    # Deseret, and letters in dark circles and squares, which normalizing leaves.
    ("\U00010404\U0001042c", "Oo"),
    *(
        ("".join(map(chr, range(start, start + 26))), _CAPITALS)
        for start in (0x1F150, 0x1F170, 0x1F1E6)
    ),
    # Signs.
    ("\u2550\ua78a\u2e40\u1400\u207c\u208c\u01c0\u2223\u3163", "======|||"),
    ("\u02d0\u0589\u05c3\u2236\ua789", ":::::"),
    ("\u3010\u3011\u3014\u3015\u301a\u301b\u27e6\u27e7\u2772\u2773\u2045\u2046", "[][][][][][]"),
)
LOOKALIKES = {
    ord(one): other for ones, others in _LETTERS for one, other in zip(ones, others, strict=True)
}
