"""When do the assumptions of SELU networks hold, when do they fail, and does it matter?"""
