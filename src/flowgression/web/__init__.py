"""The local server behind `flowgression serve`: the page, with PyTorch behind it. Standard library only.

request.py   what a client may ask for, checked
frames.py    pictures drawn step by step
models.py    the models that are served
turns.py     one picture is drawn at a time, and few wait
static.py    the files of the page
server.py    HTTP: who may ask, and what is answered
"""
